"""The tables of the sinks, and the two ways of writing: binary COPY of what is new, comparing the rest.

Rows are binary COPY's, as `sinks.rows` makes them: their fields must be in the order of `columns`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from config.errors import Refused, Stopped
from config.logs import EventLog
from sinks.postgres import Connection

log = EventLog("sinks.tables")

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
#: The source of a record, in the tables that have it.
SOURCE = ("source_partition", "source_offset")
#: Characters of a value that an error message shows.
SHOWN_CHARACTERS = 200


class Differs(Stopped):
    """A row that differs from its topic. `versions` holds both contents for callers; logs never show them."""

    def __init__(self, told: str, versions: str) -> None:
        super().__init__(told)
        self.versions = versions


@dataclass(frozen=True)
class Table:
    """A table as its sink sees it.

    `identity` recognises a record that comes again. `index` are the columns of the index that finds it
    fastest: more than the identity if the table is partitioned. `archive` has the same columns. `refers_to`
    is the table of its foreign key.
    """

    name: str
    columns: tuple[str, ...]
    identity: tuple[str, ...]
    index: tuple[str, ...]
    archive: str | None = None
    refers_to: str | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """Where a row may be."""
        return (self.name, self.archive) if self.archive else (self.name,)


#: Rows for one table, to be written in this order.
TableRows = tuple[Table, Sequence[bytes]]


def refuse_missing_rights(connection: Connection, tables: Iterable[str]) -> None:
    """Raise Refused naming the rights that a sink needs and its role does not have."""
    wanted = [(table, right) for table in tables for right in ("SELECT", "INSERT")]
    wanted += [("sink_positions", right) for right in ("SELECT", "INSERT", "UPDATE")]
    names, rights = zip(*wanted, strict=True)
    lacking = connection.execute(
        "SELECT privilege || ' on ' || name FROM unnest(%s::text[], %s::text[]) AS wanted (name, privilege)"
        " WHERE NOT has_table_privilege(name, privilege) ORDER BY name, privilege",
        [list(names), list(rights)],
    ).fetchall()
    if lacking:
        told = ", ".join(one for (one,) in lacking)
        (role,) = connection.execute("SELECT current_user").fetchone() or ("its role",)
        raise Refused(
            f"a sink's role lacks rights in PostgreSQL: {told}; run `wallet init`, or GRANT them to {role}"
        )


def copy(connection: Connection, table: Table, rows: Sequence[bytes]) -> None:
    """Add new rows; one that exists already raises psycopg's UniqueViolation. Must run in a transaction."""
    if rows:
        _lock_in_order(connection, table)
        _copy_into(connection, table.name, table.columns, rows)


def reconcile(connection: Connection, table: Table, rows: Sequence[bytes]) -> int:
    """Compare rows with the table: equal ones are skipped, missing ones added, a different one raises Stopped.

    Must run in a transaction. Returns how many were missing.
    """
    if not rows:
        return 0
    columns = _columns("{}", table.columns)
    _keep_missing(connection, table, rows)
    missing = connection.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM incoming").format(
            sql.Identifier(table.name), columns, columns
        )
    ).rowcount
    connection.execute("DROP TABLE incoming")
    return missing


def count_missing(connection: Connection, table: Table, rows: Sequence[bytes]) -> int:
    """How many rows `reconcile` would add; adds none. Raises Stopped as it does; must run in a transaction."""
    if not rows:
        return 0
    _keep_missing(connection, table, rows)
    found = connection.execute("SELECT count(*) FROM incoming").fetchone()
    connection.execute("DROP TABLE incoming")
    return int(found[0]) if found else 0


def _keep_missing(connection: Connection, table: Table, rows: Sequence[bytes]) -> None:
    """Keep in a temporary table `incoming` the rows that the table lacks; raises Stopped for a difference."""
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            _columns("{}", table.columns), sql.Identifier(table.name)
        )
    )
    _lock_in_order(connection, table)
    _copy_into(connection, "incoming", table.columns, rows)
    # Few rows against a large table: one index look-up each, never a scan of the months.
    connection.execute("ANALYZE incoming")
    connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    for place in table.places:
        _forget_equal(connection, table, place)
    for place in table.places:
        _refuse_different(connection, table, place)
    if table.archive:
        _refuse_missing_from_sealed(connection, table)


def _lock_in_order(connection: Connection, table: Table) -> None:
    """Lock the table that this one refers to first, in the same order as making and moving months does.

    The foreign key would lock it only after the rows are in: then the two could deadlock.
    """
    if table.refers_to:
        connection.execute(
            sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(table.refers_to))
        )


def _copy_into(connection: Connection, name: str, columns: Sequence[str], rows: Sequence[bytes]) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier(name), _columns("{}", columns)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(b"".join((COPY_HEADER, *rows, COPY_TRAILER)))


def _forget_equal(connection: Connection, table: Table, place: str) -> None:
    """Delete from `incoming` the rows that the table has already, found by the index, equal in every column."""
    connection.execute(
        sql.SQL("DELETE FROM incoming AS i USING {} AS t WHERE {} AND ({}) IS NOT DISTINCT FROM ({})").format(
            sql.Identifier(place),
            _same(table.index),
            _columns("i.{}", table.columns),
            _columns("t.{}", table.columns),
        )
    )


def _refuse_different(connection: Connection, table: Table, place: str) -> None:
    """Raise Stopped if a row of the same identity exists: an equal one was deleted from `incoming` before."""
    found = connection.execute(
        sql.SQL(
            "SELECT to_jsonb(t.*)::text, to_jsonb(i.*)::text FROM incoming AS i JOIN {} AS t ON {} LIMIT 1"
        ).format(sql.Identifier(place), _same(table.identity))
    ).fetchone()
    if found:
        there, came = json.loads(found[0]), json.loads(found[1])
        raise _differs(table, place, there, came)


def _differs(table: Table, place: str, there: Mapping[str, object], came: Mapping[str, object]) -> Differs:
    """Name the row by its identity and its source, and the columns that differ."""
    known_by = dict.fromkeys((*table.identity, *SOURCE))
    named = ", ".join(f"{name}={came[name]!r}" for name in known_by if name in came)
    columns = [name for name in table.columns if there[name] != came[name]]
    versions = "; ".join(
        f"{name} is {_shown(there[name])} in the table and {_shown(came[name])} in the topic"
        for name in columns
    )
    log.debug("row_differs", table=place, row=named, versions=versions)
    return Differs(
        f"{place} ({named}) differs from its topic in {', '.join(columns)}: find out which one was changed: "
        "`wallet verify` and a dry run of `wallet replay` show both",
        versions,
    )


def _refuse_missing_from_sealed(connection: Connection, table: Table) -> None:
    found = connection.execute(
        sql.SQL(
            "SELECT to_jsonb(i.*)::text FROM incoming AS i JOIN archive_seals"
            " ON month = date_trunc('month', i.recorded_at, 'UTC')::date LIMIT 1"
        )
    ).fetchone()
    if found:
        came = json.loads(found[0])
        named = ", ".join(f"{name}={came[name]!r}" for name in table.index)
        raise Stopped(
            f"{table.name} ({named}) is missing although its month is sealed: restore it from a backup"
        )


def _columns(form: str, names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(form).format(sql.Identifier(name)) for name in names)


def _same(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(sql.SQL("t.{0} = i.{0}").format(sql.Identifier(name)) for name in names)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
