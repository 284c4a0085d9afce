"""Who may seal and move months, and what becomes of databases and seals of those who could before."""

# ruff: noqa: S608 - the statements are put together here, from literals and names of months

from collections.abc import Iterator
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from audit import catalog
from config.errors import DIFFERENCES, Stopped
from config.settings import Settings
from operations.archive.verify import run as archive_verify
from operations.export import run as exporting
from operations.export.run import Options
from operations.looking.time_lookup import offsets_at
from operations.setup.init import initialise
from operations.verify import offline
from operations.verify.run import Options as Verify
from sinks import postgres
from sinks.archive import seals
from sinks.archive.compare import Mismatch
from sinks.archive.seals import Content, Range, seal_of
from sinks.postgres import Connection, migrations
from sinks.postgres.migrations import migrate, shipped
from sinks.postgres.one_state import audited
from tests.integration.archives import month, pipeline_with, seal_differences, table, work
from tests.integration.tables import change, rows
from tests.ledgers import DAY_MS, Ledger
from topics.names import Topics

pytestmark = pytest.mark.integration


OLD, YOUNGER, NOW, TO_COME = month(9), month(8), month(0), month(-1)
#: The migrations of the last release.
RELEASED = "0008_replays_and_lookups"


def entries_of(of: date, count: int = 10) -> Ledger:
    return Ledger(0, round(datetime(of.year, of.month, 1, tzinfo=UTC).timestamp() * 1_000)).post_many(
        count, 3, step_ms=DAY_MS // 4
    )


def extended(ledger: Ledger, of: date, count: int = 10) -> Ledger:
    ledger.recorded_ms = entries_of(of, 0).recorded_ms
    return ledger.post_many(count, 3, step_ms=DAY_MS // 4)


def content_of(connection: Connection, of: date, **changes: object) -> Content:
    """What a true seal of the only partition's month covers; `changes` make it a false one."""
    found = connection.execute(
        f"SELECT count(*), sum(CASE type WHEN 'CREDIT' THEN amount ELSE -amount END),"
        f" sha256(string_agg(hash, ''::bytea ORDER BY source_offset)),"
        f" min(source_offset), max(source_offset) + 1 FROM {table(of)}".encode()
    ).fetchone()
    assert found
    entries, amount, content_hash, begin, end = found
    true = Content(
        of, (Range(0, begin, end),), entries, int(amount or 0), content_hash or sha256(b"").digest()
    )
    return true._replace(**changes)  # type: ignore[arg-type] # the tests know the fields


@pytest.fixture
def owner(settings: Settings) -> Iterator[Connection]:
    migrate(settings)
    with postgres.connect(settings) as connection:
        connection.execute("SELECT make_month(day) FROM unnest(%s::date[]) AS day", [[OLD, YOUNGER, TO_COME]])
        connection.execute("INSERT INTO wallets VALUES ('w', 'EUR', now())")
        connection.execute(row_of(OLD, 1))
        yield connection


def row_of(of: date, sequence: int, target: str = "transactions") -> bytes:
    return (
        f"INSERT INTO {target} SELECT 'w', {sequence}, gen_random_uuid(), 'CREDIT', 1, 'EUR', now(), null, '{{}}', 1,"
        f" '{of} 01:00Z', 0, {sequence}, sha256('{sequence}'), ''"
    ).encode()


def refused(connection: Connection, statement: str | bytes, with_error: type[Exception]) -> None:
    text = statement.encode() if isinstance(statement, str) else statement
    with pytest.raises(with_error):
        connection.execute(text)


DENIED = psycopg.errors.InsufficientPrivilege
FORGED_SEAL = (
    "INSERT INTO archive_seals (month, ranges, entries, amount, hash, seal)"
    f" VALUES ('{OLD}', '[]', 1, 1, '', '')"
)


def test_who_writes_rows_can_neither_seal_nor_move_nor_write_into_the_archive(
    owner: Connection, settings: Settings
) -> None:
    with postgres.connect(settings, postgres.WRITER) as writer:
        refused(writer, FORGED_SEAL, DENIED)
        refused(writer, row_of(OLD, 2, "transaction_archive"), DENIED)
        refused(writer, row_of(OLD, 2, table(OLD)), DENIED)
        refused(writer, f"SELECT archive_month('{OLD}', 500)", DENIED)
        refused(writer, f"SELECT seal_month('{OLD}', '[]', 1, 1, sha256(''))", DENIED)
        refused(writer, f"CALL make_sealed('{table(OLD)}')", DENIED)
        refused(writer, "SET ROLE wallet_archiver; INSERT INTO wallets VALUES ('x', 'EUR', now())", DENIED)


def test_who_archives_can_write_nothing_else(owner: Connection, settings: Settings) -> None:
    with postgres.connect(settings, postgres.ARCHIVER) as archiver:
        refused(archiver, FORGED_SEAL, DENIED)
        refused(archiver, row_of(OLD, 2), DENIED)
        refused(archiver, row_of(OLD, 2, "transaction_archive"), DENIED)
        refused(archiver, "INSERT INTO wallets VALUES ('x', 'EUR', now())", DENIED)
        refused(archiver, "INSERT INTO transaction_snapshots SELECT * FROM transaction_snapshots", DENIED)
        refused(archiver, f"SELECT make_month('{OLD}')", DENIED)
        refused(archiver, f"ALTER TABLE transactions DETACH PARTITION {table(OLD)}", DENIED)


UNFIT: dict[str, dict[str, Any]] = {
    "no entries": {"entries": 0},
    "no ranges": {"ranges": ()},
    "a hash of another length": {"hash": b"short"},
}


def test_a_month_is_sealed_when_it_is_over_and_in_its_turn(owner: Connection, settings: Settings) -> None:
    with postgres.connect(settings, postgres.ARCHIVER) as archiver:
        for early in (NOW, TO_COME):
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is not over"):
                seals.add(archiver, content_of(owner, early, entries=1))
        for changes in UNFIT.values():
            with pytest.raises(
                psycopg.errors.InvalidParameterValue, match="cannot be sealed as what was given"
            ):
                seals.add(archiver, content_of(owner, OLD, **changes))
        with pytest.raises(psycopg.errors.UndefinedTable, match="is no month of transactions"):
            seals.add(archiver, content_of(owner, OLD, month=month(30)))
        assert rows(settings, "SELECT count(*) FROM archive_seals") == [(0,)]

        content = content_of(owner, OLD)
        seal, snapshots = seals.add(archiver, content)
        assert (seal.seal, seal.previous, snapshots) == (seal_of(content, None), None, 1)
        for again in (OLD, month(10)):
            owner.execute("SELECT make_month(%s) WHERE %s <> %s", [again, again, OLD])
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="is sealed already"):
                seals.add(archiver, content_of(owner, OLD, month=again))
        owner.execute(row_of(YOUNGER, 2))
        after = content_of(owner, YOUNGER, amount=-(10**30), ranges=(Range(10, 5, 6), Range(9, 0, 2)))
        second, _ = seals.add(archiver, after)
        # The database works a seal out as we do, whatever the order of ranges and the size of the sum.
        assert (second.previous, second.seal) == (seal.seal, seal_of(after, seal.seal))


def test_nothing_is_added_to_a_sealed_month_by_anybody_before_and_after_it_is_moved(
    owner: Connection, settings: Settings
) -> None:
    closed = psycopg.errors.RestrictViolation
    with (
        postgres.connect(settings, postgres.ARCHIVER) as archiver,
        postgres.connect(settings, postgres.WRITER) as writer,
    ):
        writer.execute(row_of(OLD, 2))
        seals.add(archiver, content_of(owner, OLD))
        refused(writer, row_of(OLD, 3), closed)
        refused(owner, row_of(OLD, 3, table(OLD)), closed)
        archiver.execute("SELECT archive_month(%s, 500)", [OLD])
        refused(owner, row_of(OLD, 3, "transaction_archive"), closed)
        owner.execute("SET session_replication_role = replica")
        refused(owner, row_of(OLD, 3, table(OLD)), closed)
        writer.execute(row_of(YOUNGER, 3))
    assert rows(settings, "SELECT sequence FROM wallet_entries ORDER BY 1") == [(1,), (2,), (3,)]
    with audited(settings) as connection:
        assert [*catalog.differences(connection)] == []


@pytest.fixture
def pipeline(settings: Settings) -> Settings:
    """Its ledger and tables hold two old months and the running one, in one partition."""
    return pipeline_with(settings, extended(extended(entries_of(OLD), YOUNGER), NOW))


FALSE_SEALS: dict[str, dict[str, Any]] = {
    "a made-up hash": {"hash": sha256(b"made up").digest()},
    "a count": {"entries": 11},
    "ranges that are too long": {"ranges": (Range(0, 0, 11),)},
    "ranges behind the topic's end": {"ranges": (Range(0, 0, 10**9),)},
    "ranges of a partition that is not there": {"ranges": (Range(0, 0, 10), Range(7, 0, 1))},
}


def unsealed(settings: Settings) -> None:
    """Take every seal back, for the next case."""
    change(settings, "DELETE FROM archive_seals; DELETE FROM transaction_snapshots")


def test_a_seal_that_is_not_its_months_is_told_by_both_audits(pipeline: Settings) -> None:
    for changes in FALSE_SEALS.values():
        with postgres.connect(pipeline) as owner, postgres.connect(pipeline, postgres.ARCHIVER) as archiver:
            seals.add(archiver, content_of(owner, OLD, **changes))
        assert archive_verify(pipeline, None, kafka=True, as_json=False) == DIFFERENCES
        with audited(pipeline) as connection:
            (told,) = seal_differences(pipeline, connection)
            assert f"{OLD:%Y-%m}" in told.detail
            # As it was, for what follows.
            assert connection.execute("SHOW enable_indexscan").fetchone() == ("on",)
        unsealed(pipeline)


def seal_by_hand(connection: Connection, content: Content, sealed_at: datetime | None = None) -> None:
    """As the last release's archive wrote a seal, and as a `wallet_writer` could do it then."""
    newest = connection.execute("SELECT seal FROM archive_seals ORDER BY month DESC LIMIT 1").fetchone()
    previous = newest[0] if newest else None
    connection.execute(
        "INSERT INTO archive_seals (month, ranges, entries, amount, hash, previous_seal, seal, sealed_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, coalesce(%s, now()))",
        [
            content.month,
            Jsonb([one._asdict() for one in content.ranges]),
            *content[2:],
            previous,
            seal_of(content, previous),
            sealed_at,
        ],
    )


#: The running month; and an empty one to come, whose time is forged.
EARLY = [(NOW, None), (TO_COME, datetime(9998, 1, 1, tzinfo=UTC))]


def test_an_early_seal_is_told_by_audits_and_the_archive_and_its_month_stays(
    pipeline: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for of, sealed_at in EARLY:
        with postgres.connect(pipeline) as owner:
            forged = content_of(owner, of, hash=sha256(b"made up").digest())
            seal_by_hand(owner, forged if forged.entries else forged._replace(ranges=()), sealed_at)
        assert archive_verify(pipeline, None, kafka=False, as_json=False) == DIFFERENCES
        assert "before it was over" in capsys.readouterr().out
        with audited(pipeline) as connection:
            told = [one.detail for one in seal_differences(pipeline, connection)]
        assert any("before it was over" in one for one in told)
        with pytest.raises(Mismatch, match=f"broken at {of:%Y-%m}: it was sealed at .* before it was over"):
            work(pipeline)
        with (
            postgres.connect(pipeline, postgres.ARCHIVER) as archiver,
            pytest.raises(
                psycopg.errors.ObjectNotInPrerequisiteState, match="is not over: it cannot be moved"
            ),
        ):
            archiver.execute("SELECT archive_month(%s, 500)", [of])
        assert rows(pipeline, "SELECT count(*) FROM transaction_archive") == [(0,)]
        unsealed(pipeline)


def test_a_database_of_the_last_release_is_brought_up_with_its_sealed_months(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "shipped", lambda: [m for m in shipped() if m.name <= RELEASED])
    monkeypatch.setattr(migrations, "DATABASE_RIGHTS", "SELECT")  # it had no such thing
    one = pipeline_with(settings, extended(extended(entries_of(OLD), YOUNGER), NOW))
    with postgres.connect(one) as owner:
        contents = [content_of(owner, of) for of in (OLD, YOUNGER)]
    with postgres.connect(one, postgres.WRITER) as writer:
        for content in contents:
            seal_by_hand(writer, content)
        writer.execute("SELECT archive_month(%s, 500)", [OLD])
    before = rows(one, "SELECT seal FROM archive_seals ORDER BY month")
    monkeypatch.undo()
    with postgres.connect(one) as owner, pytest.raises(Exception, match="run `wallet init`"):
        migrations.check(owner)

    assert initialise(one).migrated == tuple(m.name for m in shipped() if m.name > RELEASED)

    assert initialise(one).migrated == ()
    with audited(one) as connection:
        assert [*catalog.differences(connection)] == []
    with postgres.connect(one, postgres.WRITER) as writer:
        refused(writer, FORGED_SEAL, DENIED)
        refused(writer, row_of(YOUNGER, 99), psycopg.errors.RestrictViolation)
    sealed, moved, _ = work(one)
    assert ([s.month.first for s in sealed], [m.month.first for m in moved]) == ([], [YOUNGER])
    assert rows(one, "SELECT seal FROM archive_seals ORDER BY month") == before
    assert archive_verify(one, None, kafka=True, as_json=False) == 0
    with postgres.connect(one, postgres.READER) as reader:
        for of in (OLD, YOUNGER, NOW):
            assert reader.execute(f"SELECT count(*) FROM {table(of)}".encode()).fetchone() == (10,)


BEYOND = ["10000-01-01", "9999-12-01", "0044-03-15 BC", "infinity", "-infinity", None]


def test_a_month_that_no_calendar_here_has_is_refused_in_the_database(
    owner: Connection, settings: Settings
) -> None:
    for role, statement in (
        (postgres.WRITER, "SELECT make_month(%s)"),
        (postgres.ARCHIVER, "SELECT archive_month(%s, 500)"),
        (postgres.ARCHIVER, "SELECT seal_month(%s, '[]', 1, 1, sha256(''))"),
    ):
        with postgres.connect(settings, role) as session:
            for day in BEYOND:
                with pytest.raises(
                    psycopg.errors.DatetimeFieldOverflow, match="months from 0001-01 to 9998-12"
                ):
                    session.execute(statement.encode(), [day])


def test_entries_from_before_1970_are_written_archived_exported_and_found(
    settings: Settings, tmp_path: Path
) -> None:
    """Kafka takes such times: -1 of a record without one, and whatever date a producer sets."""
    old, older, oldest = date(1969, 12, 1), date(987, 3, 1), date(1, 1, 1)
    one = pipeline_with(settings, extended(extended(extended(entries_of(oldest), older), old), NOW))
    sealed, moved, _ = work(one)
    assert [sealing.month.name for sealing in sealed] == ["0001-01", "0987-03", "1969-12"]
    assert [move.month.first for move in moved] == [oldest, older, old]
    assert archive_verify(one, None, kafka=True, as_json=False) == 0
    found = offsets_at(one, [0], datetime(1969, 12, 1, tzinfo=UTC), Topics.of(one).ledger)
    assert found == {0: 20}
    files = Options(tmp_path / "files", ["ledger"], (), [], 1_000_000)
    assert exporting.run(one, files, as_json=True) == 0
    report = offline.run(tmp_path / "files", Verify())
    assert report.clean, report.differences.shown
    assert report.rows == {"0001-01": 10, "0987-03": 10, "1969-12": 10}


def test_months_beyond_the_calendar_of_an_older_database_disturb_nobody(pipeline: Settings) -> None:
    """A writer could make them until the last release."""
    with postgres.connect(pipeline) as owner:
        for name, begin, end in (
            ("transactions_10000_01", "10000-01-01Z", "10000-02-01Z"),
            ("transactions_9999_12", "9999-12-01Z", "10000-01-01Z"),
            ("transactions_0044_03", "0044-03-01Z BC", "0044-04-01Z BC"),
        ):
            owner.execute(f"CREATE TABLE {name} (LIKE transactions)".encode())
            owner.execute("CALL make_append_only(%s::regclass)", [name])
            attach = (
                f"ALTER TABLE transactions ATTACH PARTITION {name} FOR VALUES FROM ('{begin}') TO ('{end}')"
            )
            owner.execute(attach.encode())
    sealed, moved, _ = work(pipeline)
    assert [one.month.first for one in sealed] == [one.month.first for one in moved] == [OLD, YOUNGER]
    assert archive_verify(pipeline, None, kafka=True, as_json=False) == 0
    with audited(pipeline) as connection:
        assert seal_differences(pipeline, connection) == []


UNREADABLE = {
    "month = '10000-01-01'": "has the month 10000-01-01, which is not from 0001-01-01 to 9998-12-01",
    """ranges = '[{"partition": 0}]'""": "cannot be read: this program writes no such ranges",
    "ranges = '7'": "cannot be read",
    "amount = 'NaN'": "cannot be read",
}


def test_a_seal_that_cannot_be_read_is_told_in_one_line(owner: Connection, settings: Settings) -> None:
    with postgres.connect(settings, postgres.ARCHIVER) as archiver:
        seals.add(archiver, content_of(owner, OLD))
    for damage, told in UNREADABLE.items():
        with owner.transaction(force_rollback=True):
            owner.execute("ALTER TABLE archive_seals DISABLE TRIGGER append_only")
            owner.execute(f"UPDATE archive_seals SET {damage}".encode())
            with pytest.raises(Stopped, match=told) as stopped:
                seals.read(owner)
            assert "\n" not in str(stopped.value)
