-- What is written stays: UPDATE, DELETE and TRUNCATE raise for everybody, the owner and superusers too.
--
-- By triggers and not by revoking rights, because foreign key checks run with the owner's rights.
-- Statement triggers, because they are never cloned: a partition keeps its own when it is attached,
-- detached and attached elsewhere, and none of their names can clash. One on the parent does not protect
-- a partition that is named directly, so make_month gives each its own. ENABLE ALWAYS, so that
-- session_replication_role = replica does not get around them.

CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: the ledger is append-only', tg_op, tg_table_name
        USING ERRCODE = 'restrict_violation', HINT = 'Corrections are new transactions.';
END
$$;

CREATE PROCEDURE make_append_only(target regclass)
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
        'FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change()', target
    );
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', target);
END
$$;

CALL make_append_only('wallets');
CALL make_append_only('transactions');
CALL make_append_only('transaction_snapshots');
CALL make_append_only('transaction_archive');
CALL make_append_only('rejections');
