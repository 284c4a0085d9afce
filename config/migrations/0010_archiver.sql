-- A role of its own archives months: who writes rows may neither seal a month nor move it, nor add to one that is
-- sealed. Sealing goes through a function of the owner, which looks at the clock itself.

DO $$
BEGIN
    -- As in 0001: another database's init may be making it at this moment.
    IF to_regrole('wallet_archiver') IS NULL THEN
        BEGIN
            CREATE ROLE wallet_archiver NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
    IF NOT pg_has_role(
        current_user, 'wallet_archiver',
        CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
    ) THEN
        BEGIN
            EXECUTE format('GRANT wallet_archiver TO %I', current_user);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END IF;
END
$$;

-- Years that every reader's calendar has. Beyond them a month's name would be ambiguous, too ('0044' BC). Kafka takes
-- times before 1970 as well: a record without one has -1, and dates that a producer sets may be of any year.
CREATE FUNCTION month_of(day date) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    IF (day BETWEEN '0001-01-01' AND '9998-12-31') IS NOT TRUE THEN
        RAISE EXCEPTION 'month of % refused: the ledger has months from 0001-01 to 9998-12', day
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    RETURN date_trunc('month', day::timestamptz);
END
$$;
COMMENT ON FUNCTION month_of IS 'The first moment of the month that holds this day, UTC.';

-- Nothing is added to a sealed month. A trigger of the month itself, as append_only is: it stays when the month is
-- moved, and months that are not sealed do not pay for it.
CREATE FUNCTION refuse_insert() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'INSERT into % refused: its month is sealed', tg_table_name
        USING ERRCODE = 'restrict_violation', HINT = 'A row that is missing there is restored from a backup.';
END
$$;

CREATE PROCEDURE make_sealed(target regclass)
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = target AND tgname = 'sealed') THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TRIGGER sealed BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION public.refuse_insert()', target
    );
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER sealed', target);
END
$$;

DO $$
DECLARE
    target regclass;
BEGIN
    FOR target IN
        SELECT to_regclass(format('public.%I', format('transactions_%s', to_char(month, 'YYYY_MM')))) FROM archive_seals
        UNION
        SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'public.transaction_archive'::regclass
    LOOP
        IF target IS NOT NULL THEN
            CALL make_sealed(target);
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION seal_month(day date, ranges jsonb, entries bigint, amount numeric, hash bytea)
RETURNS TABLE (previous_seal bytea, seal bytea, sealed_at timestamptz, snapshots_added bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    starts timestamptz := month_of(day);
    ends timestamptz := starts + interval '1 month';
    month_name text := to_char(starts, 'YYYY-MM');
    month_table regclass := to_regclass(format('public.%I', format('transactions_%s', to_char(starts, 'YYYY_MM'))));
    newest archive_seals;
    content text;
BEGIN
    IF ends > clock_timestamp() THEN
        RAISE EXCEPTION 'month % is not over: it cannot be sealed', month_name
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_inherits WHERE inhrelid = month_table AND inhparent = 'public.transactions'::regclass
    ) THEN
        RAISE EXCEPTION 'month % is no month of transactions: it cannot be sealed', month_name
            USING ERRCODE = 'undefined_table';
    END IF;
    IF (entries > 0 AND octet_length(hash) = 32 AND jsonb_array_length(ranges) > 0
        AND amount = trunc(amount) AND amount <> 'NaN') IS NOT TRUE
    THEN
        RAISE EXCEPTION 'month % cannot be sealed as what was given: entries, their ranges, a sum and a hash', month_name
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- 1. From here on nobody adds a row to the month; it waits for those who are at it.
    CALL make_sealed(month_table);
    -- 2. Two who seal go one by one: the chain has one end.
    LOCK TABLE archive_seals IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO newest FROM archive_seals ORDER BY month DESC LIMIT 1;
    IF newest.month >= starts::date THEN
        RAISE EXCEPTION 'month % cannot be sealed: % is sealed already', month_name, to_char(newest.month, 'YYYY-MM')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- 3. Snapshots: a seal says that every wallet of its month has one at or after its last entry there.
    INSERT INTO transaction_snapshots (
        wallet_id, currency, balance, sequence, recorded_at, source_partition, source_offset, hash, reason
    )
    SELECT
        e.wallet_id, e.currency, e.balance, e.sequence, e.recorded_at, e.source_partition, e.source_offset, e.hash,
        'SEAL'
    FROM (
        SELECT wallet_id, max(sequence) AS sequence FROM transactions
        WHERE recorded_at >= starts AND recorded_at < ends GROUP BY wallet_id
    ) AS last
    JOIN transactions AS e
        ON (e.wallet_id, e.sequence) = (last.wallet_id, last.sequence)
        AND e.recorded_at >= starts AND e.recorded_at < ends
    WHERE NOT EXISTS (
        SELECT FROM transaction_snapshots AS s WHERE s.wallet_id = last.wallet_id AND s.sequence >= last.sequence
    );
    GET DIAGNOSTICS snapshots_added = ROW_COUNT;
    -- 4. The seal, over these bytes and the seal before it (docs/operations/archive.md).
    content := format(
        E'month=%s\nentries=%s\namount=%s\nhash=%s\n',
        month_name, seal_month.entries, seal_month.amount::numeric(1000, 0), encode(seal_month.hash, 'hex')
    ) || (
        SELECT string_agg(format(E'range=%s:%s:%s\n', partition, from_offset, to_offset), '' ORDER BY partition)
        FROM jsonb_to_recordset(seal_month.ranges) AS r (partition int, from_offset bigint, to_offset bigint)
    );
    RETURN QUERY
    INSERT INTO archive_seals (month, ranges, entries, amount, hash, previous_seal, seal, sealed_at)
    VALUES (
        starts::date, seal_month.ranges, seal_month.entries, seal_month.amount, seal_month.hash, newest.seal,
        sha256(coalesce(newest.seal, decode(repeat('00', 32), 'hex')) || convert_to(content, 'UTF8')),
        clock_timestamp()
    )
    RETURNING archive_seals.previous_seal, archive_seals.seal, archive_seals.sealed_at, seal_month.snapshots_added;
END
$$;
COMMENT ON FUNCTION seal_month IS
    'Seals a month that is over, after the newest seal, and brings the balances of its wallets forward.';

-- Old months only, within the calendar; besides as in 0007.
CREATE OR REPLACE FUNCTION archive_month(day date, lock_wait_ms int) RETURNS double precision
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    starts timestamptz := month_of(day);
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
    IF ends > clock_timestamp() THEN
        RAISE EXCEPTION 'month % is not over: it cannot be moved', to_char(starts, 'YYYY-MM')
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

-- Months within the calendar, and each readable by itself: pg_dump locks and reads every partition by its name.
CREATE OR REPLACE FUNCTION make_month(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    starts timestamptz := month_of(day);
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
    EXECUTE format('GRANT SELECT ON public.%I TO wallet_reader', month_name);
    EXECUTE format(
        'ALTER TABLE public.transactions ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        month_name, starts, ends
    );
    RETURN true;
END
$$;

DO $$
DECLARE
    month_table regclass;
BEGIN
    FOR month_table IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent IN ('public.transactions'::regclass, 'public.transaction_archive'::regclass)
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO wallet_reader', month_table);
    END LOOP;
END
$$;

REVOKE INSERT ON transaction_archive, archive_seals FROM wallet_writer;
REVOKE EXECUTE ON FUNCTION archive_month FROM wallet_writer;

GRANT USAGE ON SCHEMA public TO wallet_archiver;
GRANT SELECT ON
    wallets, transactions, transaction_archive, transaction_snapshots, rejections, sink_positions, archive_seals,
    wallet_entries, wallet_migrations, sink_replays
    TO wallet_archiver;
-- Its sink has a position like the others.
GRANT INSERT, UPDATE ON sink_positions TO wallet_archiver;

REVOKE EXECUTE ON FUNCTION month_of, refuse_insert, seal_month FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE make_sealed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION seal_month, archive_month TO wallet_archiver;
