-- Writers add rows and move positions, readers read. Nobody but the owner makes tables, except through
-- the owner's functions; nobody at all changes a row of the ledger (0003).

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO wallet_writer, wallet_reader;

GRANT SELECT ON
    wallets, transactions, transaction_archive, transaction_snapshots, rejections, sink_positions, archive_seals,
    wallet_entries, wallet_migrations
    TO wallet_writer, wallet_reader;
GRANT INSERT ON
    wallets, transactions, transaction_archive, transaction_snapshots, rejections, sink_positions, archive_seals
    TO wallet_writer;
GRANT UPDATE ON sink_positions TO wallet_writer;

-- A replay is compared in a temporary table.
DO $$
BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO wallet_writer', current_database());
END
$$;

-- Functions start out executable by everybody.
REVOKE EXECUTE ON FUNCTION make_month, refuse_change FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE make_append_only FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION wallet_balance, wallet_balance_at, wallet_balance_effective_at, wallet_statement FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_month TO wallet_writer;
GRANT EXECUTE ON FUNCTION wallet_balance, wallet_balance_at, wallet_balance_effective_at, wallet_statement
    TO wallet_writer, wallet_reader;
