-- What Debezium's JDBC sink writes to: the columns and indexes of `transactions`. There is no table of wallets, no foreign
-- key, no trigger and no partition of a month; its upserts would be refused by an append-only table.
--
-- Its statement of one array a column takes no bytes, so they come as text in hexadecimal.
CREATE CAST (text AS bytea) WITH INOUT AS ASSIGNMENT;

CREATE TABLE rival_transactions (
    wallet_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    transaction_id uuid NOT NULL,
    type text NOT NULL,
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
    PRIMARY KEY (wallet_id, sequence)
);
CREATE INDEX ON rival_transactions (transaction_id);
CREATE INDEX ON rival_transactions (group_id) WHERE group_id IS NOT NULL;
