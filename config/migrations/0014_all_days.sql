-- Closings of all days: until now '-infinity' and 'infinity' were days to count to.
CREATE OR REPLACE FUNCTION wallet_daily_balances(wallet_id text, "from" date, "to" date)
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
    FROM generate_series(
        CASE $2
            WHEN '-infinity' THEN (
                SELECT date_trunc('day', w.opened_at AT TIME ZONE 'UTC') FROM wallets AS w WHERE w.wallet_id = $1
            )
            ELSE $2::timestamp
        END,
        CASE $3
            WHEN 'infinity' THEN (
                SELECT date_trunc('day', n.recorded_at AT TIME ZONE 'UTC')
                FROM wallet_entries AS n WHERE n.wallet_id = $1 ORDER BY n.sequence DESC LIMIT 1
            )
            ELSE $3::timestamp - interval '1 day'
        END,
        interval '1 day'
    ) AS days (day)
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
    'The closing balance of each day in UTC, from included and to not, days without entries too; -infinity: from the day of the first entry on, infinity: to that of the newest. No row for an unknown wallet.';
