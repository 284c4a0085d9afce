-- Sealed months: their seals stay as they are, and their partitions go to the archive without copying a row.

CALL make_append_only('archive_seals');

-- The whole month in one transaction: whoever reads sees it before or after, never in between. All locks are
-- taken first, within one limit together: who reads or writes meanwhile queues behind the one that is waited
-- for, and must not wait for the sum of several. wallets comes first, as for sinks and for make_month; it is
-- needed because the foreign key that the month leaves behind has triggers there.
CREATE FUNCTION archive_month(day date, lock_wait_ms int) RETURNS double precision
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    starts timestamptz := date_trunc('month', day::timestamptz);
    ends timestamptz := starts + interval '1 month';
    month_table regclass := to_regclass(format('public.%I', format('transactions_%s', to_char(starts, 'YYYY_MM'))));
    parent regclass;
    foreign_key text;
    target text;
    began timestamptz := clock_timestamp();
    waited_ms double precision := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM archive_seals WHERE month = starts::date) THEN
        RAISE EXCEPTION 'month % is not sealed: it cannot be moved', to_char(starts, 'YYYY-MM')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF month_table IS NULL THEN
        RAISE EXCEPTION 'month % is sealed and has no table', to_char(starts, 'YYYY-MM')
            USING ERRCODE = 'undefined_table';
    END IF;
    -- No lock is asked for where there is nothing to do.
    IF EXISTS (
        SELECT FROM pg_inherits WHERE inhrelid = month_table AND inhparent = 'public.transaction_archive'::regclass
    ) THEN
        RETURN NULL;
    END IF;

    FOREACH target IN ARRAY ARRAY['public.wallets', 'public.transactions', month_table::text] LOOP
        PERFORM set_config('lock_timeout', greatest(1, lock_wait_ms - waited_ms)::int::text, true);
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', target);
        waited_ms := extract(epoch FROM clock_timestamp() - began) * 1000;
    END LOOP;

    SELECT inhparent INTO parent FROM pg_inherits WHERE inhrelid = month_table;
    IF parent = 'public.transaction_archive'::regclass THEN
        RETURN NULL;
    ELSIF parent IS NOT NULL THEN
        EXECUTE format('ALTER TABLE public.transactions DETACH PARTITION %s', month_table);
    END IF;
    -- An archived month stands by itself. Detaching keeps the foreign key as the month's own.
    FOR foreign_key IN SELECT conname FROM pg_constraint WHERE conrelid = month_table AND contype = 'f' LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', month_table, foreign_key);
    END LOOP;
    -- Its CHECK month_bounds spares the scan, its indexes are taken over as they are.
    EXECUTE format(
        'ALTER TABLE public.transaction_archive ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
        month_table, starts, ends
    );
    RETURN waited_ms;
END
$$;
COMMENT ON FUNCTION archive_month IS
    'Moves a sealed month to transaction_archive; milliseconds waited for locks, NULL if it is there already.';

REVOKE EXECUTE ON FUNCTION archive_month FROM PUBLIC;
GRANT EXECUTE ON FUNCTION archive_month TO wallet_writer;
