-- What the application's database needs, run once with psql. The server runs with wal_level=logical.

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wallet_id text NOT NULL,
    value bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

-- Inserts only: rows may be deleted at any time.
CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert');

-- The connector's login. Give it a password: \password outbox
CREATE ROLE outbox LOGIN REPLICATION;
GRANT SELECT ON outbox TO outbox;

-- Before the first row is written. From here on PostgreSQL keeps what the connector has not sent yet.
SELECT pg_create_logical_replication_slot('outbox', 'pgoutput');
