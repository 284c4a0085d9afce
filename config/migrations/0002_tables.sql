-- The tables, column by column as downstream reads them. Times are UTC, amounts are minor units. Wallet ids
-- sort by their bytes ("C"), which is fast and which no upgrade of the operating system can change.

CREATE TYPE transaction_type AS ENUM ('CREDIT', 'DEBIT');
CREATE TYPE snapshot_reason AS ENUM ('INTERVAL', 'PERIOD', 'SEAL');

CREATE TABLE wallets (
    wallet_id text COLLATE "C" PRIMARY KEY,
    currency text NOT NULL,
    opened_at timestamptz NOT NULL
);
COMMENT ON TABLE wallets IS 'One row a wallet, from its first entry.';
COMMENT ON COLUMN wallets.opened_at IS 'recorded_at of entry 1';

CREATE TABLE transactions (
    wallet_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    transaction_id uuid NOT NULL,
    type transaction_type NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    occurred_at timestamptz NOT NULL,
    group_id text,
    metadata jsonb NOT NULL,
    balance bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    source_partition int NOT NULL,
    source_offset bigint NOT NULL,
    hash bytea NOT NULL,
    entry bytea NOT NULL,
    PRIMARY KEY (wallet_id, sequence, recorded_at),
    FOREIGN KEY (wallet_id) REFERENCES wallets
) PARTITION BY RANGE (recorded_at);
CREATE INDEX ON transactions (transaction_id);
-- Most entries belong to no group: a partial index spares them the cost.
CREATE INDEX ON transactions (group_id) WHERE group_id IS NOT NULL;
COMMENT ON TABLE transactions IS 'The ledger: every accepted transaction in its wallet''s sequence.';
COMMENT ON COLUMN transactions.balance IS 'the wallet''s balance after this entry';
COMMENT ON COLUMN transactions.entry IS 'Avro body without hash: sha256(previous hash || entry) = hash';

-- No foreign key: an archived month stands by itself, wherever it is moved to.
CREATE TABLE transaction_archive (
    LIKE transactions,
    PRIMARY KEY (wallet_id, sequence, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX ON transaction_archive (transaction_id);
CREATE INDEX ON transaction_archive (group_id) WHERE group_id IS NOT NULL;
COMMENT ON TABLE transaction_archive IS 'Sealed months, moved here from transactions as whole partitions.';

CREATE TABLE transaction_snapshots (
    wallet_id text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    balance bigint NOT NULL,
    sequence bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    source_partition int NOT NULL,
    source_offset bigint NOT NULL,
    hash bytea NOT NULL,
    reason snapshot_reason NOT NULL,
    PRIMARY KEY (wallet_id, sequence, reason)
);
-- Finds the nearest snapshot at or before a time in one descent, however many came after it.
CREATE INDEX ON transaction_snapshots (wallet_id, recorded_at, sequence);
COMMENT ON TABLE transaction_snapshots IS 'Balances brought forward, all fields of the entry at which they stand.';

CREATE TABLE rejections (
    source_partition int NOT NULL,
    source_offset bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    at timestamptz NOT NULL,
    key bytea,
    value bytea,
    headers jsonb NOT NULL,
    PRIMARY KEY (source_partition, source_offset)
);
COMMENT ON TABLE rejections IS 'Every input record that is not in the ledger, with its reason and its bytes.';
COMMENT ON COLUMN rejections.at IS 'timestamp of the source record';
COMMENT ON COLUMN rejections.headers IS 'those that came, in order: [[name, value], ...], base64, value null if it was';

-- reason is text, not an enum: a sink must never stop at a reason that is younger than its database.
CREATE INDEX ON rejections (reason);

CREATE TABLE sink_positions (
    sink text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    next_offset bigint NOT NULL,
    high_offset bigint NOT NULL,
    owner text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition)
);
COMMENT ON TABLE sink_positions IS 'Where each sink is; written in the transaction that writes its rows.';
COMMENT ON COLUMN sink_positions.next_offset IS 'the record to read next';
COMMENT ON COLUMN sink_positions.high_offset IS 'one past the highest record ever written; below it rows are compared';
COMMENT ON COLUMN sink_positions.owner IS 'the one assignment of one process that may move this position';

CREATE TABLE archive_seals (
    month date PRIMARY KEY CHECK (month = date_trunc('month', month::timestamp)::date),
    ranges jsonb NOT NULL,
    entries bigint NOT NULL,
    amount numeric NOT NULL,
    hash bytea NOT NULL,
    previous_seal bytea UNIQUE,
    seal bytea NOT NULL UNIQUE,
    sealed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE archive_seals IS 'One row a sealed month; each seal covers the one before it.';
COMMENT ON COLUMN archive_seals.ranges IS '[{"partition", "from_offset", "to_offset"}, ...] of the ledger, to_offset excluded';
COMMENT ON COLUMN archive_seals.amount IS 'sum of the signed amounts: credits less debits';
COMMENT ON COLUMN archive_seals.hash IS 'over the hashes of the entries of the ranges, in their order';
COMMENT ON COLUMN archive_seals.previous_seal IS 'seal of the month sealed before, null for the first';
