-- What is complete is known only when every partition has begun: each position says how many its topic has.
ALTER TABLE sink_positions ADD COLUMN partitions int;
COMMENT ON COLUMN sink_positions.partitions IS
    'how many partitions the pipeline has; null until a sink of this release first claims the position';

CREATE OR REPLACE FUNCTION wallet_complete_until() RETURNS TABLE (recorded_at timestamptz, positions jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        CASE WHEN count(*) = max(p.partitions) AND count(*) = count(p.recorded_at) THEN min(p.recorded_at) END,
        coalesce(jsonb_object_agg(p.partition::text, p.input_offset::text), '{}')
    FROM (
        -- What only one of the two sinks has begun with is not complete.
        SELECT
            s.partition,
            max(s.partitions) AS partitions,
            CASE WHEN count(DISTINCT s.sink) = 2 THEN min(s.input_offset) ELSE 0 END AS input_offset,
            CASE WHEN count(DISTINCT s.sink) = 2 AND count(*) = count(s.recorded_at) THEN min(s.recorded_at) END
                AS recorded_at
        FROM sink_positions AS s WHERE s.sink IN ('ledger', 'rejections') GROUP BY s.partition
    ) AS p;
END;
