-- Balances of the past touch the months between two snapshots and no others, however many there are. In one statement
-- the server cannot know these months before it runs, so it plans and locks all of them. Here the snapshots are asked
-- first; then one statement asks transactions and archive, planned with the times that are known by then.
--
-- It stays exact while a month is moved. The function is STABLE: both statements see the state of the caller's. And
-- both tables are read in one statement, which locks transactions before it looks for the months of either; moving a
-- month needs transactions for itself, so that statement finds the month where it was or where it is, never in between.
CREATE OR REPLACE FUNCTION wallet_balance_at(wallet_id text, at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    nearest record;
    later numeric;
BEGIN
    SELECT
        coalesce(s.balance, 0) AS balance, coalesce(s.sequence, 0) AS sequence,
        -- No entry is older than the wallet.
        coalesce(s.recorded_at, wallets.opened_at) AS recorded_at,
        coalesce(following.sequence, 9223372036854775807) AS following
    INTO nearest
    FROM wallets
    LEFT JOIN LATERAL (
        SELECT s.balance, s.sequence, s.recorded_at
        FROM transaction_snapshots AS s
        WHERE s.wallet_id = wallets.wallet_id AND s.recorded_at <= wallet_balance_at.at
        ORDER BY s.recorded_at DESC, s.sequence DESC
        LIMIT 1
    ) AS s ON true
    LEFT JOIN LATERAL (
        SELECT s.sequence
        FROM transaction_snapshots AS s
        WHERE s.wallet_id = wallets.wallet_id AND s.recorded_at > wallet_balance_at.at
        ORDER BY s.recorded_at, s.sequence
        LIMIT 1
    ) AS following ON true
    WHERE wallets.wallet_id = wallet_balance_at.wallet_id;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF nearest.following = nearest.sequence + 1 OR nearest.recorded_at > wallet_balance_at.at THEN
        RETURN nearest.balance;
    END IF;

    -- EXECUTE plans anew each time, with these values.
    EXECUTE
        'SELECT sum(CASE type WHEN ''CREDIT'' THEN amount ELSE -amount END) FROM wallet_entries'
        ' WHERE wallet_id = $1 AND sequence > $2 AND sequence < $3 AND recorded_at >= $4 AND recorded_at <= $5'
    INTO later
    USING wallet_balance_at.wallet_id, nearest.sequence, nearest.following, nearest.recorded_at, wallet_balance_at.at;
    RETURN nearest.balance + coalesce(later, 0);
END
$$;

CREATE FUNCTION wallet_balance_before(wallet_id text, at timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    -- Times are whole microseconds. The first one there is has none before it.
    SELECT wallet_balance_at(
        wallet_balance_before.wallet_id,
        greatest(wallet_balance_before.at, timestamptz '0001-01-01 00:00Z') - interval '1 microsecond'
    );
END;
COMMENT ON FUNCTION wallet_balance_before IS
    'Balance by recorded_at before this time: the opening balance of a statement that begins then.';

CREATE OR REPLACE FUNCTION wallet_statement(
    wallet_id text, "from" timestamptz DEFAULT '-infinity', "to" timestamptz DEFAULT 'infinity'
) RETURNS TABLE (
    wallet_id text, sequence bigint, transaction_id uuid, type transaction_type, amount bigint, currency text,
    occurred_at timestamptz, group_id text, metadata jsonb, balance bigint, recorded_at timestamptz,
    source_partition int, source_offset bigint, hash bytea
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        e.wallet_id, e.sequence, e.transaction_id, e.type, e.amount, e.currency, e.occurred_at, e.group_id,
        e.metadata, e.balance, e.recorded_at, e.source_partition, e.source_offset, e.hash
    FROM wallet_entries AS e
    WHERE e.wallet_id = $1
        AND e.recorded_at >= coalesce($2, '-infinity'::timestamptz) AND e.recorded_at < coalesce($3, 'infinity'::timestamptz)
    ORDER BY e.sequence;
END;
COMMENT ON FUNCTION wallet_statement IS
    'Entries of a wallet by sequence, recorded_at from included and to not; a bound that is NULL is none.';

REVOKE EXECUTE ON FUNCTION wallet_balance_before FROM PUBLIC;
GRANT EXECUTE ON FUNCTION wallet_balance_before TO wallet_writer, wallet_reader;
