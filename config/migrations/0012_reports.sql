-- Reports over all wallets, and how complete the tables are: what the console answers, for every reader in SQL.

-- Each sink's position says which input its rows are of, too. A sink moves both columns with its position; and where
-- its topic holds nothing more for a while, they follow the other sink's (sinks/completeness.py).
ALTER TABLE sink_positions
    ADD COLUMN input_offset bigint NOT NULL DEFAULT 0,
    ADD COLUMN recorded_at timestamptz;
COMMENT ON COLUMN sink_positions.input_offset IS
    'sinks ledger and rejections: no row of this sink is missing for the records of the input partition below this offset';
COMMENT ON COLUMN sink_positions.recorded_at IS
    'sinks ledger and rejections: nor for what was recorded before this time; null while unknown';

-- Rows of an earlier release know it from here on. What was rejected has an index by source, the ledger has none.
UPDATE sink_positions AS p
SET input_offset = newest.source_offset + 1, recorded_at = newest.at
FROM sink_positions AS q CROSS JOIN LATERAL (
    SELECT r.source_offset, r.at FROM rejections AS r WHERE r.source_partition = q.partition
    ORDER BY r.source_offset DESC LIMIT 1
) AS newest
WHERE p.sink = 'rejections' AND (q.sink, q.topic, q.partition) = (p.sink, p.topic, p.partition);

CREATE FUNCTION wallet_complete_until() RETURNS TABLE (recorded_at timestamptz, positions jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        CASE WHEN count(*) = count(p.recorded_at) THEN min(p.recorded_at) END,
        coalesce(jsonb_object_agg(p.partition::text, p.input_offset::text), '{}')
    FROM (
        -- What only one of the two sinks has begun with is not complete.
        SELECT
            s.partition,
            CASE WHEN count(DISTINCT s.sink) = 2 THEN min(s.input_offset) ELSE 0 END AS input_offset,
            CASE WHEN count(DISTINCT s.sink) = 2 AND count(*) = count(s.recorded_at) THEN min(s.recorded_at) END
                AS recorded_at
        FROM sink_positions AS s WHERE s.sink IN ('ledger', 'rejections') GROUP BY s.partition
    ) AS p;
END;
COMMENT ON FUNCTION wallet_complete_until IS
    'One row: the tables have the outcome of every input record below these offsets, by partition, and of all that was recorded before this time.';

CREATE FUNCTION wallet_balances_at(wallet_ids text[], at timestamptz DEFAULT 'infinity')
RETURNS TABLE (wallet_id text, currency text, balance bigint)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT wanted.wallet_id, wallets.currency, wallet_balance_at(wanted.wallet_id, coalesce($2, 'infinity'::timestamptz))
    FROM unnest($1) WITH ORDINALITY AS wanted (wallet_id, place)
    LEFT JOIN wallets ON wallets.wallet_id = wanted.wallet_id
    ORDER BY wanted.place;
END;
COMMENT ON FUNCTION wallet_balances_at IS
    'wallet_balance_at for each of these wallets, in their order; currency and balance are NULL for an unknown one.';

CREATE FUNCTION wallet_trial_balance(at timestamptz DEFAULT 'infinity')
RETURNS TABLE (currency text, credits numeric, debits numeric, balance numeric, wallets bigint)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT s.currency, s.credits, s.debits, s.credits - s.debits, w.wallets
    FROM (
        SELECT
            e.currency,
            coalesce(sum(e.amount) FILTER (WHERE e.type = 'CREDIT'), 0) AS credits,
            coalesce(sum(e.amount) FILTER (WHERE e.type = 'DEBIT'), 0) AS debits
        FROM wallet_entries AS e WHERE e.recorded_at <= coalesce($1, 'infinity'::timestamptz) GROUP BY e.currency
    ) AS s JOIN (
        SELECT w.currency, count(*) AS wallets
        FROM wallets AS w WHERE w.opened_at <= coalesce($1, 'infinity'::timestamptz) GROUP BY w.currency
    ) AS w ON w.currency = s.currency
    ORDER BY s.currency COLLATE "C";
END;
COMMENT ON FUNCTION wallet_trial_balance IS
    'Credits, debits and what is left of all wallets, by currency and by recorded_at, entries at that very time included.';

CREATE FUNCTION wallet_daily_balances(wallet_id text, "from" date, "to" date)
RETURNS TABLE (day date, balance bigint, entries bigint, credits numeric, debits numeric)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        days.day::date,
        (
            (SELECT wallet_balance_before($1, $2::timestamp AT TIME ZONE 'UTC'))
            + sum(coalesce(e.credits, 0) - coalesce(e.debits, 0)) OVER (ORDER BY days.day)
        )::bigint,
        coalesce(e.entries, 0), coalesce(e.credits, 0), coalesce(e.debits, 0)
    FROM generate_series($2::timestamp, $3::timestamp - interval '1 day', interval '1 day') AS days (day)
    LEFT JOIN (
        SELECT
            date_trunc('day', e.recorded_at AT TIME ZONE 'UTC') AS day,
            count(*) AS entries,
            sum(e.amount) FILTER (WHERE e.type = 'CREDIT') AS credits,
            sum(e.amount) FILTER (WHERE e.type = 'DEBIT') AS debits
        FROM wallet_entries AS e
        WHERE e.wallet_id = $1
            AND e.recorded_at >= $2::timestamp AT TIME ZONE 'UTC' AND e.recorded_at < $3::timestamp AT TIME ZONE 'UTC'
        GROUP BY 1
    ) AS e ON e.day = days.day
    WHERE EXISTS (SELECT FROM wallets WHERE wallets.wallet_id = $1)
    ORDER BY days.day;
END;
COMMENT ON FUNCTION wallet_daily_balances IS
    'The closing balance of each day in UTC, from included and to not, days without entries too; no row for an unknown wallet.';

CREATE FUNCTION wallet_group(group_id text) RETURNS TABLE (
    wallet_id text, sequence bigint, transaction_id uuid, type transaction_type, amount bigint, currency text,
    occurred_at timestamptz, group_id text, metadata jsonb, balance bigint, recorded_at timestamptz,
    source_partition int, source_offset bigint, hash bytea, currency_sum numeric, complete boolean
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT legs.*, bool_and(legs.currency_sum = 0) OVER ()
    FROM (
        SELECT
            e.wallet_id, e.sequence, e.transaction_id, e.type, e.amount, e.currency, e.occurred_at, e.group_id,
            e.metadata, e.balance, e.recorded_at, e.source_partition, e.source_offset, e.hash,
            sum(CASE e.type WHEN 'CREDIT' THEN e.amount ELSE -e.amount END) OVER (PARTITION BY e.currency) AS currency_sum
        FROM wallet_entries AS e WHERE e.group_id = $1
    ) AS legs
    ORDER BY legs.recorded_at, legs.wallet_id, legs.sequence;
END;
COMMENT ON FUNCTION wallet_group IS
    'The legs of a movement, each with the sum of its currency in the group; complete if all of these sums are zero.';

CREATE FUNCTION wallet_open_groups() RETURNS TABLE (
    group_id text, currency text, legs bigint, balance numeric, opened_at timestamptz, newest_at timestamptz
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        e.group_id, e.currency, count(*), sum(CASE e.type WHEN 'CREDIT' THEN e.amount ELSE -e.amount END),
        min(e.recorded_at), max(e.recorded_at)
    FROM wallet_entries AS e WHERE e.group_id IS NOT NULL
    GROUP BY e.group_id, e.currency
    HAVING sum(CASE e.type WHEN 'CREDIT' THEN e.amount ELSE -e.amount END) <> 0
    ORDER BY min(e.recorded_at), e.group_id COLLATE "C", e.currency;
END;
COMMENT ON FUNCTION wallet_open_groups IS
    'Groups whose legs do not sum to zero, a row a currency, the oldest first. Reads every entry that has a group.';

REVOKE EXECUTE ON FUNCTION
    wallet_complete_until, wallet_balances_at, wallet_trial_balance, wallet_daily_balances, wallet_group, wallet_open_groups
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    wallet_complete_until, wallet_balances_at, wallet_trial_balance, wallet_daily_balances, wallet_group, wallet_open_groups
    TO wallet_writer, wallet_reader;
