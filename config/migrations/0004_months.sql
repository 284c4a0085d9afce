-- Months of transactions. A month is made as a plain table and attached: CREATE ... PARTITION OF would
-- lock all of transactions, ATTACH lets its readers and writers go on.

CREATE FUNCTION make_month(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    starts timestamptz := date_trunc('month', day::timestamptz);
    ends timestamptz := starts + interval '1 month';
    month_name text := format('transactions_%s', to_char(starts, 'YYYY_MM'));
BEGIN
    -- Before looking for the table: a sealed month's is there, in the archive.
    IF EXISTS (SELECT FROM archive_seals WHERE month = starts::date) THEN
        RAISE EXCEPTION 'month % is sealed: nothing can be added to it', to_char(starts, 'YYYY-MM')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF to_regclass(format('public.%I', month_name)) IS NOT NULL THEN
        RETURN false;
    END IF;

    -- The foreign key that ATTACH adds needs this lock on wallets. It is taken before any other, as
    -- sinks do too, and it queues two makers of the same month: whoever comes second finds it made.
    LOCK TABLE wallets IN SHARE ROW EXCLUSIVE MODE;
    IF to_regclass(format('public.%I', month_name)) IS NOT NULL THEN
        RETURN false;
    END IF;

    EXECUTE format('CREATE TABLE public.%I (LIKE public.transactions INCLUDING STORAGE)', month_name);
    -- Stays for the month's life: when the archive attaches the full month, this spares it the scan.
    EXECUTE format(
        'ALTER TABLE public.%I ADD CONSTRAINT month_bounds CHECK (recorded_at >= %L AND recorded_at < %L)',
        month_name, starts, ends
    );
    CALL make_append_only(format('public.%I', month_name)::regclass);
    EXECUTE format(
        'ALTER TABLE public.transactions ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        month_name, starts, ends
    );
    RETURN true;
END
$$;
COMMENT ON FUNCTION make_month IS 'Makes the partition of transactions that holds this day; false if it is there.';
