-- What readers ask. Each function reads transactions and archive in one statement: in two, a month that
-- is being moved between them would be missed or seen twice. Bodies are BEGIN ATOMIC: their names are
-- resolved here and now, so no caller's search_path can point them elsewhere.

CREATE VIEW wallet_entries AS
    SELECT * FROM transactions
    UNION ALL
    SELECT * FROM transaction_archive;
COMMENT ON VIEW wallet_entries IS 'Every entry exactly once, whether its month is archived or not.';

CREATE FUNCTION wallet_balance_at(wallet_id text, at timestamptz) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    -- The snapshot's recorded_at bounds the entries after it: months before it are pruned when this runs.
    SELECT (coalesce(nearest.balance, 0) + coalesce(later.amount, 0))::bigint
    FROM wallets
    LEFT JOIN LATERAL (
        SELECT s.balance, s.sequence, s.recorded_at
        FROM transaction_snapshots AS s
        WHERE s.wallet_id = wallets.wallet_id AND s.recorded_at <= wallet_balance_at.at
        ORDER BY s.recorded_at DESC, s.sequence DESC
        LIMIT 1
    ) AS nearest ON true
    CROSS JOIN LATERAL (
        SELECT sum(CASE e.type WHEN 'CREDIT' THEN e.amount ELSE -e.amount END) AS amount
        FROM wallet_entries AS e
        WHERE e.wallet_id = wallets.wallet_id
            AND e.sequence > coalesce(nearest.sequence, 0)
            AND e.recorded_at >= coalesce(nearest.recorded_at, '-infinity')
            AND e.recorded_at <= wallet_balance_at.at
    ) AS later
    WHERE wallets.wallet_id = wallet_balance_at.wallet_id;
END;
COMMENT ON FUNCTION wallet_balance_at IS
    'Balance by recorded_at, entries at that very time included; 0 before the first, NULL for an unknown wallet.';

CREATE FUNCTION wallet_balance(wallet_id text) RETURNS bigint
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT wallet_balance_at(wallet_balance.wallet_id, 'infinity');
END;
COMMENT ON FUNCTION wallet_balance IS 'Newest balance; NULL for an unknown wallet.';

CREATE FUNCTION wallet_balance_effective_at(wallet_id text, at timestamptz) RETURNS numeric
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(effective.amount, 0)
    FROM wallets
    CROSS JOIN LATERAL (
        SELECT sum(CASE e.type WHEN 'CREDIT' THEN e.amount ELSE -e.amount END) AS amount
        FROM wallet_entries AS e
        WHERE e.wallet_id = wallets.wallet_id AND e.occurred_at <= wallet_balance_effective_at.at
    ) AS effective
    WHERE wallets.wallet_id = wallet_balance_effective_at.wallet_id;
END;
COMMENT ON FUNCTION wallet_balance_effective_at IS
    'Sum of all entries with occurred_at up to and at this time. numeric: in this order it may leave 64 bits.';

CREATE FUNCTION wallet_statement(
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
    WHERE e.wallet_id = $1 AND e.recorded_at >= $2 AND e.recorded_at < $3
    ORDER BY e.sequence;
END;
COMMENT ON FUNCTION wallet_statement IS 'Entries of a wallet by sequence, recorded_at from included and to not.';
