-- Which cluster and which topic a sink stands in: a topic that was made again, or copied elsewhere, has the same name
-- and perhaps as many records, and its offsets mean others. Rows of earlier releases get theirs at the next claim.
ALTER TABLE sink_positions ADD COLUMN cluster_id text, ADD COLUMN topic_id text;
COMMENT ON COLUMN sink_positions.cluster_id IS 'the Kafka cluster that the offsets are of; null until it is first claimed';
COMMENT ON COLUMN sink_positions.topic_id IS 'the id that Kafka gave the topic; another topic of the same name has another one';

-- Whoever set a position by hand beyond what was written: a sink that reads on from there holds it for written, too.
UPDATE sink_positions SET high_offset = next_offset WHERE next_offset > high_offset;
ALTER TABLE sink_positions ADD CHECK (next_offset <= high_offset);
