-- How far a replay of a sink is (`wallet replay`). It has a position of its own beside the sink's, moved in the
-- transaction of its rows: a replay that is stopped anywhere goes on from there, and a sink that is started
-- instead goes on from its own position as if there had been no replay.

CREATE TABLE sink_replays (
    sink text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    from_offset bigint NOT NULL,
    to_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    read bigint NOT NULL DEFAULT 0,
    inserted bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition),
    CHECK (from_offset <= next_offset AND next_offset <= to_offset AND inserted <= read)
);
COMMENT ON TABLE sink_replays IS 'The last replay of each sink; unfinished while a next_offset is below its to_offset.';
COMMENT ON COLUMN sink_replays.next_offset IS 'the record to read next';
COMMENT ON COLUMN sink_replays.read IS 'records read so far; those that were not inserted were found equal';

GRANT SELECT ON sink_replays TO wallet_writer, wallet_reader;
GRANT INSERT, UPDATE, DELETE ON sink_replays TO wallet_writer;

-- The entries after the nearest snapshot are bounded by the next one, too. Without that a lookup reads, in the
-- index, on to the end of the month of `at`: the index is by sequence, so a time does not end its scan.
CREATE OR REPLACE FUNCTION wallet_balance_at(wallet_id text, at timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    -- The snapshots' recorded_at bounds the entries: months before and after them are pruned when this runs.
    SELECT (coalesce(nearest.balance, 0) + coalesce(later.amount, 0))::bigint
    FROM wallets
    LEFT JOIN LATERAL (
        SELECT s.balance, s.sequence, s.recorded_at
        FROM transaction_snapshots AS s
        WHERE s.wallet_id = wallets.wallet_id AND s.recorded_at <= wallet_balance_at.at
        ORDER BY s.recorded_at DESC, s.sequence DESC
        LIMIT 1
    ) AS nearest ON true
    LEFT JOIN LATERAL (
        SELECT s.sequence
        FROM transaction_snapshots AS s
        WHERE s.wallet_id = wallets.wallet_id AND s.recorded_at > wallet_balance_at.at
        ORDER BY s.recorded_at, s.sequence
        LIMIT 1
    ) AS following ON true
    CROSS JOIN LATERAL (
        SELECT sum(CASE e.type WHEN 'CREDIT' THEN e.amount ELSE -e.amount END) AS amount
        FROM wallet_entries AS e
        WHERE e.wallet_id = wallets.wallet_id
            AND e.sequence > coalesce(nearest.sequence, 0)
            AND e.sequence < coalesce(following.sequence, 9223372036854775807)
            AND e.recorded_at >= coalesce(nearest.recorded_at, '-infinity')
            AND e.recorded_at <= wallet_balance_at.at
    ) AS later
    WHERE wallets.wallet_id = wallet_balance_at.wallet_id;
END;
