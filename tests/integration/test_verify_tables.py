"""`wallet verify` against tables that their owner tampered with: it finds exactly what was done to them."""

# ruff: noqa: S608 - the owner's statements are put together here, from literals

from collections.abc import Iterator

import pytest

from audit.report import Difference
from config.settings import Settings
from local.stack import Addresses
from schemas.codec import encode_entry, encode_transaction
from sinks import postgres
from sinks.postgres import Connection, databases, questions
from tests.effort import in_full
from tests.integration.pipelines import transaction
from tests.integration.tables import unguarded
from tests.integration.verify_copies import (
    PARTITIONS,
    pipeline_that_ran,
    tampering,
    told,
    verified,
)
from tests.reading import read_all
from topics.names import Topics

pytestmark = pytest.mark.integration


def entry(number: int, sequence: int = 3) -> str:
    """One row of `transactions`, by default in the middle of its wallet's sequence; each time the same one."""
    chosen = f"FROM transactions WHERE sequence = {sequence} ORDER BY source_partition, source_offset"
    return f"(wallet_id, sequence) = (SELECT wallet_id, sequence {chosen} OFFSET {number} LIMIT 1)"


WALLETS_FIRST = "wallet_id = (SELECT min(wallet_id) FROM wallets)"
OLDEST_SNAPSHOT = (
    "(wallet_id, sequence) = (SELECT wallet_id, sequence FROM transaction_snapshots ORDER BY 1, 2 LIMIT 1)"
)
OLDEST_REJECTION = (
    "(source_partition, source_offset) ="
    " (SELECT source_partition, source_offset FROM rejections ORDER BY 1, 2 LIMIT 1)"
)
NO_HEADERS = (
    "(source_partition, source_offset) = (SELECT source_partition, source_offset FROM rejections"
    " WHERE headers = '[]' ORDER BY 1 DESC, 2 DESC LIMIT 1)"
)
#: An entry that decodes, of a partition and of an offset that no column takes.
HUGE = encode_entry(encode_transaction(transaction(1, "huge")), 1, 1, 10**15, 2**31, 2**63 - 1)
AS_KEPT = "next_offset = k.next_offset, high_offset = k.high_offset"
SAME = "(p.sink, p.topic, p.partition) = (k.sink, k.topic, k.partition)"


@pytest.fixture(scope="module")
def audited(addresses: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pipeline_that_ran(addresses, tmp_path_factory.mktemp("verify")) as settings:
        yield settings


@pytest.fixture
def owner(audited: Settings) -> Iterator[Connection]:
    with tampering(audited) as connection:
        yield connection


@pytest.fixture
def copied(audited: Settings) -> Iterator[Settings]:
    """The same pipeline with a copy of its database, for what cannot be undone."""
    with postgres.connect(audited) as owner:
        original = owner.info.dbname
    copy = f"{original}_copied"
    with postgres.connect(databases.of(audited, "postgres")) as operator:
        operator.execute(f"CREATE DATABASE {copy} TEMPLATE {original}".encode())
    yield databases.of(audited, copy)
    databases.drop(audited, copy)


def tampered(owner: Connection, *statements: str) -> None:
    """Change rows as an owner can, and leave the guards as they were."""
    with unguarded(owner):
        for statement in statements:
            assert owner.execute(statement).rowcount == 1, statement


#: What is done to a column of an entry, each to an entry of its own.
CHANGES = {
    "an amount": "amount = amount + 1",
    "a balance": "balance = 0",
    "a hash": "hash = sha256('')",
    "an entry": "entry = entry || '\\x00'",
    "an entry whose numbers no column takes": f"entry = '\\x{HUGE.hex()}'",
    "an entry that is nothing": "entry = ''",
    "a hash of another length": "hash = '\\x00'",
    "an amount that no sum bears": "amount = 9223372036854775807",
    "metadata": 'metadata = \'{"a": "1"}\'',
    "metadata with a number that no program bears": "metadata = '{\"a\": 1e5000}'",
    "a time": "occurred_at = 'infinity'",
    "a source": "source_offset = 10000000",
}
SECOND = "(SELECT * FROM transactions ORDER BY 1, 2 OFFSET 1 LIMIT 1) AS t"
TOO_MANY = (
    "wallet_id, sequence + 1000, transaction_id, type, amount, currency, occurred_at, group_id, metadata, balance,"
    " recorded_at, source_partition, source_offset, hash, entry"
)
#: What is done, and what must be found: what, the table, and the column that differs.
TAMPERED = {
    name: (f"UPDATE transactions SET {change} WHERE {entry(at)}", f"altered transactions {change.split()[0]}")
    for at, (name, change) in enumerate(CHANGES.items())
} | {
    "a row that is gone": (f"DELETE FROM transactions WHERE {entry(15)}", "missing transactions"),
    "a first row that is gone": (
        f"DELETE FROM transactions WHERE {entry(15, sequence=1)}",
        "missing transactions",
    ),
    "a row too many": (f"INSERT INTO transactions SELECT {TOO_MANY} FROM {SECOND}", "extra transactions"),
    "a row that is in the archive as well": (
        f"INSERT INTO transaction_archive SELECT * FROM {SECOND}",
        "extra transactions",
    ),
    "a wallet's currency": (
        f"UPDATE wallets SET currency = 'XXX' WHERE {WALLETS_FIRST}",
        "altered wallets currency",
    ),
    "a wallet too many": ("INSERT INTO wallets VALUES ('nobody', 'EUR', now())", "extra wallets"),
    "a snapshot": (
        f"UPDATE transaction_snapshots SET balance = balance + 1 WHERE {OLDEST_SNAPSHOT}",
        "altered transaction_snapshots balance",
    ),
    "a snapshot's hash of another length": (
        f"UPDATE transaction_snapshots SET hash = '' WHERE {OLDEST_SNAPSHOT.replace('LIMIT', 'OFFSET 1 LIMIT')}",
        "altered transaction_snapshots hash",
    ),
    "a SEAL of no entry": (
        "INSERT INTO transaction_snapshots VALUES ('rich', 'EUR', 1, 9, now(), 0, 0, sha256(''), 'SEAL')",
        "extra transaction_snapshots",
    ),
    "a rejection that is gone": (f"DELETE FROM rejections WHERE {OLDEST_REJECTION}", "missing rejections"),
    "a rejection's bytes": (
        f"UPDATE rejections SET value = '\\x01' WHERE {OLDEST_REJECTION}",
        "altered rejections value",
    ),
    "a rejection's headers in another form": (
        f"UPDATE rejections SET headers = '{{}}' WHERE {NO_HEADERS}",
        "altered rejections headers",
    ),
}


def but_functions(differences: list[Difference]) -> list[Difference]:
    """The functions answer from the rows: what is wrong with those may show in them too."""
    return [one for one in differences if not one.where.startswith(("wallet_balance", "wallet_statement"))]


def seen(one: Difference) -> str:
    """A difference in the words of `TAMPERED`."""
    if one.what != "altered":
        return f"{one.what} {one.where}"
    assert one.expected
    assert one.found
    assert one.expected.keys() == one.found.keys()
    return f"altered {one.where} {' '.join(one.found)}"


#: One of each kind; the others run in `make test-full`. Each by itself: one difference has an audit look closer at all.
FEW = {
    "an amount",
    "an entry",
    "a row that is gone",
    "a row too many",
    "a row that is in the archive as well",
    "a snapshot",
    "a rejection that is gone",
}


@pytest.mark.parametrize("case", [case if case in FEW else in_full(case) for case in TAMPERED])
def test_what_was_done_to_a_row_is_found_and_nothing_else(
    audited: Settings, owner: Connection, case: str
) -> None:
    statement, expected = TAMPERED[case]
    if "archive" in statement:
        owner.execute(
            "CREATE TABLE archived PARTITION OF transaction_archive DEFAULT;"
            " CALL make_append_only('archived'); CALL make_sealed('archived')"
        )
    tampered(owner, statement)
    report = verified(audited)
    if "archive" in statement:
        owner.execute("DROP TABLE archived")
    found = [one for one in but_functions(report.differences.shown) if one.where != "archived"]
    assert [seen(one) for one in found] == [expected]


@pytest.mark.full
def test_a_true_seal_is_no_difference(audited: Settings, owner: Connection) -> None:
    tampered(
        owner,
        "INSERT INTO transaction_snapshots SELECT wallet_id, currency, balance, sequence, recorded_at,"
        " source_partition, source_offset, hash, 'SEAL' FROM transactions WHERE wallet_id = 'rich'",
    )
    assert told(verified(audited)) == []


def test_guards_that_were_taken_away_and_a_function_that_was_replaced_are_found(
    audited: Settings, owner: Connection
) -> None:
    month = owner.execute("SELECT min(tableoid::regclass::text) FROM transactions").fetchone()
    assert month
    owner.execute("ALTER TABLE wallets DISABLE TRIGGER append_only")
    owner.execute(f"DROP TRIGGER append_only ON {month[0]}")
    owner.execute("ALTER TABLE rejections ENABLE TRIGGER append_only")  # no longer always
    definition = owner.execute("SELECT pg_get_functiondef('wallet_balance(text)'::regprocedure)").fetchone()
    assert definition
    owner.execute(
        "CREATE OR REPLACE FUNCTION wallet_balance(wallet_id text) RETURNS bigint LANGUAGE sql STABLE STRICT"
        " AS 'SELECT 1::bigint'"
    )
    report = verified(audited, shown=10_000)
    owner.execute(definition[0])
    owner.execute(f"CALL make_append_only('{month[0]}')")
    owner.execute("ALTER TABLE wallets ENABLE ALWAYS TRIGGER append_only")
    owner.execute("ALTER TABLE rejections ENABLE ALWAYS TRIGGER append_only")
    assert {*told(report)} == {
        *((name, "unprotected") for name in (month[0], "rejections", "wallets")),
        ("wallet_balance", "altered"),
    }


def test_rows_that_a_sink_has_not_written_yet_are_no_difference(audited: Settings, owner: Connection) -> None:
    """The ledger's sink stands before the last ten records of each partition, and their rows are not there."""
    ledger = Topics.of(audited).ledger
    offsets: dict[int, list[int]] = {at: [] for at in range(PARTITIONS)}
    for message in read_all(audited, ledger, PARTITIONS):
        offsets[message.partition() or 0].append(message.offset() or 0)
    with unguarded(owner):
        owner.execute("CREATE TEMPORARY TABLE kept_positions AS SELECT * FROM sink_positions")
        for partition, found in offsets.items():
            owner.execute(
                "UPDATE sink_positions SET next_offset = %(at)s, high_offset = %(at)s"
                " WHERE (topic, partition) = (%(topic)s, %(partition)s)",
                {"at": found[-10], "topic": ledger, "partition": partition},
            )
        owner.execute(
            "DELETE FROM transactions AS t USING (SELECT wallet_id, sequence, row_number() OVER"
            " (PARTITION BY source_partition ORDER BY source_offset DESC) AS n FROM transactions) AS o"
            " WHERE o.n <= 10 AND (t.wallet_id, t.sequence) = (o.wallet_id, o.sequence)"
        )
        owner.execute("DELETE FROM wallets WHERE wallet_id NOT IN (SELECT wallet_id FROM transactions)")
    try:
        report = verified(audited)
    finally:
        owner.execute(f"UPDATE sink_positions AS p SET {AS_KEPT} FROM kept_positions AS k WHERE {SAME}")
    assert report.clean, report.differences.shown
    assert report.rows["transactions"] == sum(one.entries for one in report.covered) - 10 * PARTITIONS


def test_where_the_archive_stands_says_nothing_of_the_rows_of_the_snapshots_that_it_reads_too(
    audited: Settings, owner: Connection
) -> None:
    names = Topics.of(audited)
    owner.execute(
        "INSERT INTO sink_positions (sink, topic, partition, next_offset, high_offset, owner)"
        " SELECT 'archive', topic, partition, 0, 0, 'somebody' FROM sink_positions WHERE topic = %s",
        [names.snapshots],
    )
    try:
        assert told(verified(audited)) == []
        assert all(
            at.sink == "snapshots"
            for (topic, _), at in questions.written(audited).items()
            if topic == names.snapshots
        )
    finally:
        owner.execute("DELETE FROM sink_positions WHERE sink = 'archive'")


def test_a_position_that_no_sink_of_ours_has_hides_nothing(audited: Settings, owner: Connection) -> None:
    owner.execute(
        "INSERT INTO sink_positions (sink, topic, partition, next_offset, high_offset, owner)"
        " SELECT 'zzz', topic, partition, 0, 0, '' FROM sink_positions WHERE topic = %s AND partition = 0",
        [Topics.of(audited).rejections],
    )
    try:
        tampered(owner, f"DELETE FROM rejections WHERE {OLDEST_REJECTION}")
        assert told(verified(audited)) == [("rejections", "missing"), ("sink_positions", "extra")]
    finally:
        owner.execute("DELETE FROM sink_positions WHERE sink = 'zzz'")


def test_rows_that_are_not_written_by_what_a_sink_says_are_noted(
    audited: Settings, owner: Connection
) -> None:
    topic = Topics.of(audited).rejections
    owner.execute("CREATE TEMPORARY TABLE kept_positions AS SELECT * FROM sink_positions")
    owner.execute("UPDATE sink_positions SET next_offset = 0, high_offset = 0 WHERE topic = %s", [topic])
    with unguarded(owner):
        owner.execute("DELETE FROM rejections")
    try:
        report = verified(audited)
    finally:
        owner.execute(f"UPDATE sink_positions AS p SET {AS_KEPT} FROM kept_positions AS k WHERE {SAME}")
    count = sum(one.rejections for one in report.covered)
    assert f"rejections: {count:,} rows are not written yet" in " ".join(report.notes)


def test_the_rows_of_a_sink_that_was_set_back_are_no_difference(audited: Settings, owner: Connection) -> None:
    """It compares what it reads a second time; what it wrote the first time is in the tables."""
    owner.execute("UPDATE sink_positions SET next_offset = 0")
    try:
        report = verified(audited)
    finally:
        owner.execute("UPDATE sink_positions SET next_offset = high_offset")
    assert report.clean, report.differences.shown


@pytest.mark.parametrize(
    ("statement", "table", "unread"),
    [
        ("DROP TABLE rejections", "rejections", {"rejections"}),
        in_full(
            "ALTER TABLE transaction_snapshots RENAME TO others",
            "transaction_snapshots",
            {"transaction_snapshots", "wallets", "archive_seals"},
        ),
        in_full("DROP VIEW wallet_entries CASCADE", "wallet_entries", {"wallets", "archive_seals"}),
        in_full("ALTER TABLE transactions RENAME COLUMN balance TO other", "transactions", {"transactions"}),
    ],
)
def test_what_is_gone_is_a_difference_and_what_was_not_compared_for_it_is_said(
    copied: Settings, statement: str, table: str, unread: set[str]
) -> None:
    with postgres.connect(copied) as owner:
        owner.execute(statement.encode())
    report = verified(copied, shown=10_000)
    assert table in {one.where for one in report.differences.shown}
    assert {note.split()[2] for note in report.notes if "were not compared" in note} == unread
