"""Compare what guards the tables (columns, constraints, triggers, rights, functions) with what was shipped.

`catalog.json` lists what PostgreSQL must say about each object; months have one list for each state. Objects that are
not ours are ignored, but anything they attach to ours is reported.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from hashlib import sha256
from importlib import resources
from typing import NamedTuple

from audit.copied import Connection
from audit.report import Difference

#: A month among `transactions`, one of them that is sealed, and one in the archive.
OPEN, SEALED, ARCHIVED = "month", "month, sealed", "month, archived"
#: What stands for a month's own name and bounds.
NAME, STARTS, ENDS = "{month}", "{starts}", "{ends}"
_BLANKS = re.compile(r"\s+")

#: Our tables, the view over them, and their months, with the state of each.
_RELATIONS = f"""
    SELECT c.oid AS id, c.relname::text AS name, c.relkind, to_char(m.first, 'YYYY-MM-DD') AS starts,
        to_char(m.first + interval '1 month', 'YYYY-MM-DD') AS ends,
        CASE WHEN i.inhparent = to_regclass('transaction_archive') THEN '{ARCHIVED}'
            WHEN m.first = ANY (%s::date[]) THEN '{SEALED}'
            WHEN i.inhparent IS NULL THEN c.relname::text
            ELSE '{OPEN}' END AS state
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = 'public'
    LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
        AND i.inhparent IN (to_regclass('transactions'), to_regclass('transaction_archive'))
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.relname ~ '^transactions_[0-9]{{4}}_(0[1-9]|1[012])$' AND c.relname !~ '_0000_'
            THEN to_date(substr(c.relname, 14), 'YYYY_MM') END AS first
    ) AS m
    WHERE i.inhparent IS NOT NULL OR c.relname = ANY (%s) OR m.first = ANY (%s::date[])
"""  # noqa: S608 - put together from literals
_LINES = f"""
    WITH ours AS ({_RELATIONS}), lines AS (
        SELECT id, concat_ws(' ', 'is',
            CASE c.relkind WHEN 'v' THEN 'view' WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table'
                ELSE 'something else' END,
            CASE WHEN c.relowner <> (SELECT relowner FROM pg_class WHERE oid = to_regclass('wallet_migrations'))
                THEN 'of another owner' END,
            CASE WHEN c.relpersistence <> 'p' THEN 'not durable' END,
            CASE WHEN c.relrowsecurity OR c.relforcerowsecurity THEN 'with row security' END) AS line
        FROM ours JOIN pg_class AS c ON c.oid = id
        UNION ALL
        SELECT id, concat_ws(' ', 'partition of', i.inhparent::regclass, pg_get_expr(c.relpartbound, id))
        FROM ours JOIN pg_inherits AS i ON i.inhrelid = id JOIN pg_class AS c ON c.oid = id
        UNION ALL
        SELECT id, concat_ws(' ', 'has a child', i.inhrelid::regclass)
        FROM ours JOIN pg_inherits AS i ON i.inhparent = id
        WHERE relkind <> 'p' OR name NOT IN ('transactions', 'transaction_archive')
        UNION ALL
        SELECT id, 'index ' || pg_get_indexdef(x.indexrelid)
        FROM ours JOIN pg_index AS x ON x.indrelid = id AND (x.indisunique OR x.indexprs IS NOT NULL)
        WHERE NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = x.indexrelid)
        UNION ALL
        SELECT id, concat_ws(' ', 'column', a.attname, format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attcollation <> y.typcollation THEN 'collate ' || l.collname END,
            CASE WHEN a.attnotnull THEN 'not null' END, CASE WHEN a.attgenerated <> '' THEN 'generated' END,
            CASE WHEN a.attidentity <> '' THEN 'identity' END, 'default ' || pg_get_expr(d.adbin, id))
        FROM ours JOIN pg_attribute AS a ON a.attrelid = id AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type AS y ON y.oid = a.atttypid LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        LEFT JOIN pg_attrdef AS d ON d.adrelid = id AND d.adnum = a.attnum
        UNION ALL
        SELECT id, 'constraint ' || pg_get_constraintdef(k.oid)
        FROM ours JOIN pg_constraint AS k ON k.conrelid = id AND k.contype IN ('p', 'u', 'f', 'c', 'x')
        UNION ALL
        SELECT id, concat_ws(' ', replace(pg_get_triggerdef(t.oid), 'CREATE TRIGGER', 'trigger'),
            CASE t.tgenabled WHEN 'A' THEN 'always' WHEN 'O' THEN 'as origin' WHEN 'R' THEN 'as replica'
                ELSE 'never' END)
        FROM ours JOIN pg_trigger AS t ON t.tgrelid = id AND NOT t.tgisinternal
        UNION ALL
        SELECT id, 'foreign keys are not checked'
        FROM ours JOIN pg_trigger AS t ON t.tgrelid = id AND t.tgisinternal AND t.tgenabled <> 'O' GROUP BY id
        UNION ALL
        SELECT id, CASE WHEN relkind = 'v' THEN 'query ' || pg_get_viewdef(id) ELSE 'rule ' || r.rulename END
        FROM ours JOIN pg_rewrite AS r ON r.ev_class = id
        UNION ALL
        SELECT id, 'policy ' || p.polname FROM ours JOIN pg_policy AS p ON p.polrelid = id
        UNION ALL
        SELECT id, concat_ws(' ', g.privilege_type, 'by', coalesce(r.rolname, 'PUBLIC'), g.on_column,
            CASE WHEN g.is_grantable THEN 'with grant option' END)
        FROM ours JOIN pg_class AS c ON c.oid = id
        CROSS JOIN LATERAL (
            SELECT x.grantee, x.privilege_type, x.is_grantable, NULL::text AS on_column FROM aclexplode(c.relacl) AS x
            UNION ALL
            SELECT x.grantee, x.privilege_type, x.is_grantable, format('(%%s)', a.attname)
            FROM pg_attribute AS a CROSS JOIN LATERAL aclexplode(a.attacl) AS x WHERE a.attrelid = id
        ) AS g
        LEFT JOIN pg_roles AS r ON r.oid = g.grantee
        WHERE g.grantee <> c.relowner AND g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
    )
    SELECT name, state, starts, ends, line FROM ours LEFT JOIN lines USING (id)
"""  # noqa: S608 - put together from literals
_FUNCTIONS = """
    SELECT format('%%s(%%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
        concat_ws(' ', CASE p.prokind WHEN 'f' THEN 'function' WHEN 'p' THEN 'procedure' ELSE 'aggregate' END,
            'returns ' || pg_get_function_result(p.oid), 'language ' || l.lanname, 'volatility ' || p.provolatile::text,
            CASE WHEN p.proisstrict THEN 'strict' END, CASE WHEN p.prosecdef THEN 'security definer' END,
            'set ' || array_to_string(p.proconfig, ', '),
            CASE WHEN p.proowner <> (SELECT relowner FROM pg_class WHERE oid = to_regclass('wallet_migrations'))
                THEN 'of another owner' END),
        pg_get_function_sqlbody(p.oid), p.prosrc,
        ARRAY(
            SELECT concat_ws(' ', 'EXECUTE by', coalesce(r.rolname, 'PUBLIC'),
                CASE WHEN g.is_grantable THEN 'with grant option' END)
            FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS g
            LEFT JOIN pg_roles AS r ON r.oid = g.grantee WHERE g.grantee <> p.proowner
        )
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname = 'public'
    JOIN pg_language AS l ON l.oid = p.prolang
    WHERE p.proname = ANY (%s)
"""


_BESIDE = """
    SELECT 'public', format('the operator %s was not shipped', o.oid::regoperator)
    FROM pg_operator AS o
    WHERE o.oprleft IN (to_regtype('transaction_type'), to_regtype('snapshot_reason'))
        OR o.oprright IN (to_regtype('transaction_type'), to_regtype('snapshot_reason'))
    UNION ALL
    SELECT 'public', format('a cast from %s to %s was not shipped', c.castsource::regtype, c.casttarget::regtype)
    FROM pg_cast AS c
    WHERE c.castsource IN (to_regtype('transaction_type'), to_regtype('snapshot_reason'))
        OR c.casttarget IN (to_regtype('transaction_type'), to_regtype('snapshot_reason'))
    UNION ALL
    SELECT 'public', format('%s may make objects in the schema', coalesce(r.rolname, 'PUBLIC'))
    FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee
    WHERE n.nspname = 'public' AND g.privilege_type = 'CREATE' AND g.grantee <> n.nspowner
        AND (g.grantee = 0 OR r.rolname IN ('wallet_writer', 'wallet_reader', 'wallet_archiver'))
    ORDER BY 1, 2
"""


class Thing(NamedTuple):
    """A table, month, view or function: `kind` names its list in `catalog.json`, `lines` is what it has."""

    name: str
    kind: str
    lines: frozenset[str]


def shipped() -> Mapping[str, frozenset[str]]:
    """What must exist, by kind."""
    text = resources.files("audit").joinpath("catalog.json").read_text("utf-8")
    return {kind: frozenset(lines) for kind, lines in json.loads(text).items()}


def there(connection: Connection, names: Mapping[str, object]) -> Iterator[Thing]:
    """What exists of these tables and functions, and all months."""
    relations, sealed = [name for name in names if "(" not in name], []
    if connection.execute("SELECT to_regclass('archive_seals') IS NOT NULL").fetchone() == (True,):
        sealed = [month for (month,) in connection.execute("SELECT month::text FROM archive_seals")]
    lines: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, state, starts, ends, line in connection.execute(_LINES.encode(), [sealed, relations, sealed]):
        some = lines[name, state]
        if line is not None:
            some.add(_named(line, name, starts, ends) if state in {OPEN, SEALED, ARCHIVED} else _plain(line))
    functions = list({name.partition("(")[0] for name in names if "(" in name})
    for name, made, body, source, rights in connection.execute(_FUNCTIONS.encode(), [functions]):
        # The server prints parsed SQL bodies in its own form; text bodies have comments, so their line breaks matter.
        written = _BLANKS.sub(" ", body) if body is not None else "\n".join(source.splitlines())
        lines[name, name] |= {made, _digest("body", written), *rights}
    for (name, kind), some in lines.items():
        yield Thing(name, kind, frozenset(some))


def differences(connection: Connection) -> Iterator[Difference]:
    """Everything that differs from what was shipped."""
    must_be = shipped()
    missing = {kind for kind in must_be if kind not in {OPEN, SEALED, ARCHIVED}}
    for thing in there(connection, must_be):
        missing.discard(thing.kind)
        wanted = must_be.get(thing.kind)
        if wanted is None:
            yield Difference(
                thing.name, "extra", check="catalog", detail="a function of this name was not shipped"
            )
        elif thing.lines != wanted:
            yield Difference(
                thing.name.partition("(")[0],
                "altered" if "(" in thing.name else "unprotected",
                expected={"catalog": sorted(wanted - thing.lines)},
                found={"catalog": sorted(thing.lines - wanted)},
                check="catalog",
            )
    yield from _beside(connection)
    for name in sorted(missing):
        yield Difference(
            name.partition("(")[0], "missing", check="catalog", detail="it was shipped but is missing"
        )


def _beside(connection: Connection) -> Iterator[Difference]:
    """What can change the meaning of our statements: operators and casts of our types, and who may create more."""
    for name, detail in connection.execute(_BESIDE):
        yield Difference(name, "unprotected", check="catalog", detail=detail)


def _named(line: str, name: str, starts: str | None, ends: str | None) -> str:
    """A line about a month, with its name and bounds replaced by placeholders."""
    line = _plain(line).replace(name, NAME)
    for bound, stands in ((starts, STARTS), (ends, ENDS)):
        if bound is not None:
            line = line.replace(bound, stands)
    return line


def _plain(line: str) -> str:
    what, _, text = line.partition(" ")
    return _digest(what, _BLANKS.sub(" ", text)) if what == "query" else line.replace(" public.", " ")


def _digest(what: str, text: str) -> str:
    """A digest in place of a long text."""
    return f"{what} {sha256(text.strip().encode()).hexdigest()}"
