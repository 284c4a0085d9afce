"""PostgreSQL for the console: a bounded pool of read-only sessions as `wallet_reader`, with time limits.

The limit also catches a server that falls silent (suspended, or its machine is): the session is dropped then.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from config.errors import WalletError
from config.logs import EventLog
from config.settings import Settings
from console.problems import Problem, away, wrong
from sinks.postgres import ENCODING, MEANING, PARAMETERS, READER, one_line
from sinks.postgres.dsn import checked

log = EventLog("console.database")

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

#: Seconds that a request waits for a free session before PostgreSQL counts as away or busy.
SESSION_S = 3.0
#: Most requests that wait for a session.
MOST_WAITING = 2_000
#: Seconds for which a new session is retried with growing pauses; the next request starts over.
RECONNECT_S = 4.0
#: How much shorter the server's own limit is, for the way there and back.
ON_THE_WAY_S = 2.0


class Database:
    """The sessions. Use `open` first and `close` last, within one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._limit_s = settings.console_statement_s
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            checked(settings.postgres.get_secret_value()),
            kwargs=PARAMETERS
            | {"autocommit": True, "client_encoding": ENCODING, "application_name": "wallet console"},
            min_size=1,
            max_size=settings.console_connections,
            max_waiting=MOST_WAITING,
            timeout=SESSION_S,
            reconnect_timeout=RECONNECT_S,
            configure=self._configure,
            open=False,
        )

    async def open(self) -> None:
        """Start connecting in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all sessions."""
        await self._pool.close(timeout=2.0)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Connection]:
        """A session for some queries, which together have WALLET_CONSOLE_STATEMENT_S. Raises Problem."""
        try:
            async with self._pool.connection() as connection, asyncio.timeout(self._limit_s + ON_THE_WAY_S):
                yield connection
        except psycopg.errors.QueryCanceled:
            raise away(
                f"PostgreSQL did not answer within {self._limit_s:g} s: ask for less, or raise "
                "WALLET_CONSOLE_STATEMENT_S"
            ) from None
        except TimeoutError:
            raise away("PostgreSQL does not answer") from None
        except TooManyRequests:
            raise away("too many requests are waiting for PostgreSQL") from None
        except PoolTimeout:
            raise away("PostgreSQL does not answer, or all sessions are busy") from None
        except psycopg.errors.InsufficientPrivilege as failure:
            log.warning("right_lacks", reason=one_line(failure))
            raise Problem(
                503, "the console's login lacks a right in PostgreSQL: see the console's log"
            ) from None
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as failure:
            log.warning("tables_lack", reason=one_line(failure))
            raise Problem(503, "tables or functions are missing in PostgreSQL: run `wallet init`") from None
        except psycopg.DataError:
            raise wrong("a value is out of the tables' range") from None
        except (psycopg.OperationalError, psycopg.InterfaceError) as failure:
            log.warning("postgres_away", reason=one_line(failure))
            raise away("PostgreSQL failed") from None

    @asynccontextmanager
    async def one_state(self) -> AsyncIterator[Connection]:
        """The same, with all queries seeing one state of the tables."""
        async with self.asking() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # First of all, like a move to the archive does: so there can be no deadlock.
            await connection.execute("LOCK TABLE wallets IN ACCESS SHARE MODE")
            yield connection

    async def _configure(self, connection: Connection) -> None:
        wanted = MEANING | {
            "statement_timeout": f"{int(self._limit_s * 1_000)}",
            "lock_timeout": f"{int(self._limit_s * 1_000)}",
            "idle_in_transaction_session_timeout": f"{int((self._limit_s + ON_THE_WAY_S) * 1_000)}",
            "default_transaction_read_only": "on",
        }
        try:
            await connection.execute(
                "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)",
                [list(wanted), list(wanted.values())],
            )
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(READER)))
        except psycopg.Error as failure:
            log.warning("session_refused", reason=one_line(failure))
            raise


async def rows(connection: Connection, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return await (await connection.execute(query, values)).fetchall()


async def row(connection: Connection, query: LiteralString, *values: object) -> tuple[Any, ...] | None:
    """The first row of a query, or None."""
    return await (await connection.execute(query, values)).fetchone()


def told(error: WalletError) -> Problem:
    """An error from Kafka's side as a Problem."""
    log.warning("not_answered", reason=str(error))
    return away("Kafka does not answer")
