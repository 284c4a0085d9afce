"""What stands for `sinks.tables` on the simulated server: new rows, and rows that are compared."""

import struct
from collections.abc import Sequence
from functools import cache

import psycopg

from config.errors import Stopped
from sinks.tables import Table
from tests.simulation.postgres import Key, Session


def copy(session: Session, table: Table, rows: Sequence[bytes]) -> None:
    """Add rows that are new; one that is there violates a unique key."""
    if rows:
        session.reach(f"copy into {table.name}")
    for row in rows:
        key = identity(table, row)
        session.lock(key)
        if key in session.server.content.rows or key in session.rows:
            raise psycopg.errors.UniqueViolation(f"duplicate key value {key}")
        session.rows[key] = row
        session.offered[row] += 1


def reconcile(session: Session, table: Table, rows: Sequence[bytes]) -> int:
    """Equal is a no-op, missing is added, different raises Stopped."""
    if rows:
        session.reach(f"reconcile with {table.name}")
    missing = 0
    for row in rows:
        key = identity(table, row)
        there = session.server.content.rows.get(key, session.rows.get(key))
        if there is None:
            session.lock(key)
            session.rows[key] = row
            missing += 1
        elif there != row:
            raise Stopped(f"{key} differs from its topic")
        session.offered[row] += 1
    return missing


@cache
def identity(table: Table, row: bytes) -> Key:
    """What a row of binary COPY is known by: its table, and the fields of its unique index."""
    fields, at = [], 2
    while at < len(row):
        (length,) = struct.unpack_from(">i", row, at)
        fields.append(row[at + 4 : at + 4 + max(length, 0)])
        at += 4 + max(length, 0)
    return (table.name, *(fields[table.columns.index(name)] for name in table.index))
