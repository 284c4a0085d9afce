"""What `wallet rebuild` asks a database besides its rows: its identity and sessions; and dropping its tables."""

import psycopg
from psycopg import sql

from config.errors import Refused, WalletError
from config.settings import Settings
from sinks.postgres import Connection, connect, one_line

#: How long dropping waits for sessions that read.
LOCK_TIMEOUT = "5s"
#: Tables, partitioned tables, views, materialised views and sequences of ours, those of extensions left out.
_RELATIONS = """
    SELECT c.relname, c.relkind::text FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
        AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1
"""
_ROUTINES = """
    SELECT p.oid::regprocedure::text FROM pg_proc AS p
    WHERE p.pronamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
    ORDER BY 1
"""
_TYPES = """
    SELECT t.typname FROM pg_type AS t
    WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd')
        AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = t.oid AND d.deptype = 'e')
    ORDER BY 1
"""
_DROPS = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE"}


def connect_shadow(settings: Settings) -> Connection:
    """Connect to the shadow's database; errors name the variable that it comes from."""
    try:
        return connect(settings)
    except WalletError as error:
        told = str(error).replace("WALLET_POSTGRES", "WALLET_REBUILD_POSTGRES")
        raise type(error)(f"the shadow's database: {told}") from None


def identity(connection: Connection) -> str:
    """What identifies this database, however you connect to it: server and number."""
    row = connection.execute(
        """
        SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())
        FROM pg_control_system()
        """
    ).fetchone()
    if row is None:
        raise AssertionError("pg_control_system() returned nothing")
    return f"{row[0]}/{row[1]}"


def tables(connection: Connection) -> list[str]:
    """The tables and views of the schema `public`, partitions and what belongs to extensions left out."""
    return [name for name, _ in connection.execute(_RELATIONS).fetchall()]


def topics_of_sinks(connection: Connection) -> set[str]:
    """The topics that the rows of this database came from; none if our tables do not exist."""
    if "sink_positions" not in tables(connection):
        return set()
    return {topic for (topic,) in connection.execute("SELECT DISTINCT topic FROM sink_positions").fetchall()}


def sink_sessions(connection: Connection) -> list[str]:
    """The sinks that are connected to this database now, for people."""
    rows = connection.execute(
        """
        SELECT concat(application_name, ' at ', coalesce(host(client_addr), 'local'), ' (session ', pid, ')')
        FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'wallet sink %' ORDER BY application_name, pid
        """
    ).fetchall()
    return [told for (told,) in rows]


def idle_s(connection: Connection) -> float | None:
    """Seconds since a sink last wrote here, by the server's clock; None where none ever did."""
    row = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - max(updated_at))::float8 FROM sink_positions"
    ).fetchone()
    return row[0] if row else None


def drop_everything(connection: Connection) -> None:
    """Drop all tables, views, routines and types of the schema `public`, in one transaction.

    The database itself stays: we did not make it. Raises Refused if other sessions use the tables, or if this
    user does not own all of them.
    """
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("SET LOCAL lock_timeout = {limit}").format(limit=sql.Literal(LOCK_TIMEOUT))
            )
            for name, kind in connection.execute(_RELATIONS).fetchall():
                drop = sql.SQL("DROP {} IF EXISTS {} CASCADE")
                connection.execute(drop.format(sql.SQL(_DROPS[kind]), sql.Identifier("public", name)))
            for (signature,) in connection.execute(_ROUTINES).fetchall():
                # PostgreSQL's own spelling of a name with its arguments, which quoting would break.
                connection.execute(f"DROP ROUTINE IF EXISTS {signature} CASCADE".encode())
            for (name,) in connection.execute(_TYPES).fetchall():
                connection.execute(
                    sql.SQL("DROP TYPE IF EXISTS {} CASCADE").format(sql.Identifier("public", name))
                )
    except psycopg.errors.LockNotAvailable:
        raise Refused(
            "other sessions use the shadow's tables: end them, then run the command again"
        ) from None
    except psycopg.errors.InsufficientPrivilege as denied:
        raise Refused(
            f"WALLET_REBUILD_POSTGRES lacks the right to drop the shadow's tables: {one_line(denied)}"
        ) from None
