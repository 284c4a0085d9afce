"""Create and drop whole databases on the server of WALLET_POSTGRES, for demonstrations and tests.

A database cannot be created or dropped within a transaction; connections are in autocommit already.
"""

from psycopg import conninfo, sql
from pydantic import SecretStr

from config.settings import Settings
from sinks.postgres import connect


def of(settings: Settings, name: str) -> Settings:
    """The same settings with another database of the same server."""
    dsn = conninfo.make_conninfo(settings.postgres.get_secret_value(), dbname=name)
    return settings.model_copy(update={"postgres": SecretStr(dsn)})


def create(settings: Settings, name: str) -> Settings:
    """Create an empty database and return the settings that lead to it."""
    with connect(settings) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return of(settings, name)


def drop(settings: Settings, name: str) -> None:
    """Drop a database, even if sessions are connected to it; does nothing if it does not exist."""
    with connect(settings) as connection:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        connection.execute(statement)


def names(settings: Settings) -> list[str]:
    """The databases of the server that this user may connect to."""
    with connect(settings) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1").fetchall()
        return [row[0] for row in rows]
