"""PostgreSQL beside the fold: every row, the guards of the tables, and the balance functions.

The tables are read first, with the sinks' positions, in one snapshot: every row in it comes from a record that the
topics hold, so the fold, whose cut is taken later, knows what must be there.
"""

from collections.abc import Iterable, Sequence

from audit.report import Difference, Differences, What, differing
from audit.samples import History, Samples
from config.settings import Settings
from config.times import rfc3339
from config.topics import Topics
from operations.output import Advance
from operations.verify import archive as verify_archive
from operations.verify.columns import ROWS, Row, Rows
from operations.verify.digests import STRETCH, Digests, Stretch, different
from operations.verify.expected import TABLES, ExpectedRows
from operations.verify.kinds import record_of
from operations.verify.reading import Reading
from schemas.partitioner import partition_of
from schemas.records import from_ms, from_us
from sinks import audit, audit_rows
from sinks.postgres import Connection

#: Times that PostgreSQL is asked about: those of the years 1 to 9999.
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999
#: Stretches of a table that are looked at row by row; the others are counted.
EXPLAINED = 64
ROWS_BETWEEN_LOOKS = 5_000


class DatabaseAudit:
    """What PostgreSQL holds of these partitions; `limits` leaves out rows from a source offset on, by partition."""

    def __init__(
        self,
        settings: Settings,
        partitions: Sequence[int],
        key: bytes,
        differences: Differences,
        limits: dict[int, int],
    ) -> None:
        self._settings = settings
        self._all = len(partitions) == settings.partitions
        self._partitions = partitions
        self._differences = differences
        self._limits = limits
        self.rows = {table: Digests(key) for table in TABLES}
        #: Next offsets of the sinks as of the rows, by topic and partition.
        self.positions: dict[tuple[str, int], int] = {}
        self._wallets: list[tuple[Row | None, Row | None]] = []

    # -- 1. before the fold

    def read(self, connection: Connection, advance: Advance, *, seals_beside_topic: bool) -> None:
        """Count all rows, and tell what is wrong by itself: guards that are gone, SEALs without their entry."""
        asked = () if self._all else self._partitions
        self.positions = audit.positions(connection)
        for done, entry in enumerate(audit_rows.entries(connection, asked)):
            if self._within(entry.partition, entry.source_offset):
                self.rows["transactions"].add(entry.partition, entry.source_offset, entry.body)
                if not entry.agrees:
                    self.rows["transactions"].spoil(entry.partition, entry.source_offset)
            if done % ROWS_BETWEEN_LOOKS == 0:
                advance(done)
        for snapshot, interval in audit_rows.snapshots(connection, asked):
            if self._within(snapshot.partition, snapshot.source_offset) and (interval or not self._limits):
                self.rows["transaction_snapshots"].add(*snapshot)
        for rejection in audit_rows.rejections(connection, asked):
            if self._within(rejection.partition, rejection.source_offset):
                self.rows["rejections"].add(*rejection)
        advance(sum(digests.total() for digests in self.rows.values()))
        self._wallets = list(_bounded(audit.wrong_wallets(connection)))
        for expected, found in _bounded(audit.wrong_seals(connection)):
            self._tell("transaction_snapshots", expected, found)
        if self._all:
            sealed = verify_archive.differences(self._settings, connection, topic=seals_beside_topic)
            for difference in sealed:
                self._differences.add(difference)
        for table, reason in audit.unprotected(connection):
            self._differences.add(Difference(table, "unprotected", detail=reason))

    # -- 2. after the fold

    def compare(self, expected: ExpectedRows, known_wallets: set[str]) -> None:
        """Tell every row that is missing, too much or altered. `known_wallets` have entries by the fold."""
        for spec in ROWS:
            stretches = different(expected.due(spec.table), self.rows[spec.table])
            if stretches:
                self._explain(spec, stretches)
        for wanted, found in self._wallets:
            known = wanted or found or {}
            wallet_id = str(known["wallet_id"])
            mine = (
                self._all or partition_of(wallet_id.encode(), self._settings.partitions) in self._partitions
            )
            # A wallet whose first entry's row is missing is told by that row.
            if mine and (wanted is not None or wallet_id not in known_wallets):
                self._tell("wallets", wanted, found)

    @property
    def suspected_wallets(self) -> set[str]:
        """Wallets that have a row and no row of a first entry."""
        return {str(found["wallet_id"]) for wanted, found in self._wallets if wanted is None and found}

    def ask_functions(self, samples: Samples) -> dict[str, int]:
        """Hold the balance functions against the fold for sampled wallets; how many answers were compared."""
        asked = wallets = skipped = 0
        with audit.looking(self._settings) as connection:
            for wallet_id, history in samples.chosen():
                try:
                    answered = self._ask(connection, wallet_id, history)
                except audit.Unanswered as reason:
                    self._differences.add(
                        Difference("wallet_balance", "altered", wallet_id=wallet_id, detail=str(reason))
                    )
                    continue
                wallets += answered > 0
                skipped += answered == 0
                asked += answered
        return {"wallets": wallets, "answers": asked, "wallets_in_flight": skipped}

    def _ask(self, connection: Connection, wallet_id: str, history: History) -> int:
        steps = [step for step in history.times() if FIRST_MS <= step.recorded_ms <= LAST_MS]
        recorded = [from_ms(step.recorded_ms) for step in steps]
        occurred = [from_us(step.occurred_us) for step in steps] if history.complete else []
        got = audit.answers(connection, wallet_id, recorded, occurred)
        if got.last_sequence != history.last_sequence:
            return 0  # newer entries are in flight; what is missing is told by its row
        newest = history.steps[-1].balance
        pairs: list[tuple[str, object, object]] = [("wallet_balance", newest, got.balance)]
        for step, at, answer in zip(steps, recorded, got.balances_at, strict=True):
            pairs.append((f"wallet_balance_at {rfc3339(at)}", history.balance_at(step.recorded_ms), answer))
        for step, at, answer in zip(steps, occurred, got.effective_at, strict=False):
            wanted = history.effective_at(step.occurred_us)
            pairs.append((f"wallet_balance_effective_at {rfc3339(at)}", wanted, answer))
        for question, right, told in pairs:
            if right != told:
                self._differences.add(
                    Difference(
                        question.split()[0],
                        "altered",
                        wallet_id=wallet_id,
                        sequence=history.last_sequence,
                        expected={"balance": right},
                        found={"balance": told},
                        detail=question,
                    )
                )
        return len(pairs)

    # -- what differs

    def _within(self, partition: int, source_offset: int) -> bool:
        limit = self._limits.get(partition) if self._limits else None
        return limit is None or source_offset < limit

    def _explain(self, spec: Rows, stretches: dict[Stretch, tuple[int, int]]) -> None:
        """Look at differing stretches row by row: the topic, which was compared with the fold, against the table."""
        explained = list(stretches)[:EXPLAINED]
        topic = getattr(Topics.of(self._settings), spec.topic)
        with audit.looking(self._settings) as connection:
            positions = audit.positions(connection)
            rows = audit.stored(connection, spec.stored_in, explained, STRETCH)
            found = [row for row in rows if self._counts(row)]
        wanted = self._from_topic(spec, topic, set(explained), positions)
        told = self._compare_rows(spec, wanted, found)
        for stretch in explained:
            if stretch not in told:
                self._tell_stretch(spec, stretch, stretches[stretch], "as the topic, not as the fold")
        for stretch in list(stretches)[EXPLAINED:]:
            self._tell_stretch(spec, stretch, stretches[stretch], "not looked at one by one")

    def _from_topic(
        self, spec: Rows, topic: str, stretches: set[Stretch], positions: dict[tuple[str, int], int]
    ) -> list[Row]:
        wanted: list[Row] = []
        reading = Reading(self._settings, topic)
        try:
            for partition in sorted({stretch.partition for stretch in stretches}):
                if (topic, partition) not in positions or partition >= self._settings.partitions:
                    continue
                reading.start(partition, reading.begin_now(partition), positions[topic, partition])
                while messages := reading.next(10_000):
                    for message in messages:
                        row = _row(spec, message)
                        if row and Stretch.of(partition, int(str(row["source_offset"]))) in stretches:
                            wanted += [row] if self._counts(row) else []
        finally:
            reading.close()
        return wanted

    def _counts(self, row: Row) -> bool:
        within = self._within(int(str(row["source_partition"])), int(str(row["source_offset"])))
        return within and not (self._limits and row.get("reason") == "PERIOD")

    def _compare_rows(self, spec: Rows, wanted: Iterable[Row], found: Iterable[Row]) -> set[Stretch]:
        """Tell each difference; returns the stretches that have one."""
        told: set[Stretch] = set()
        left = {tuple(row[name] for name in spec.identity): row for row in wanted}
        for row in found:
            expected = left.pop(tuple(row[name] for name in spec.identity), None)
            if expected != row:
                self._tell(spec.table, expected, row)
                told |= {_stretch(one) for one in (expected, row) if one}
        for row in left.values():
            self._tell(spec.table, row, None)
            told.add(_stretch(row))
        return told

    def _tell(self, table: str, expected: Row | None, found: Row | None) -> None:
        known = expected or found or {}
        what: What = "altered" if expected and found else ("missing" if expected else "extra")
        if expected and found:
            expected, found = differing(expected, found)
        self._differences.add(
            Difference(
                table,
                what,
                _number(known.get("source_partition")),
                None,
                _number(known.get("source_offset")),
                None if known.get("wallet_id") is None else str(known["wallet_id"]),
                _number(known.get("sequence")),
                expected,
                found,
            )
        )

    def _tell_stretch(self, spec: Rows, at: Stretch, counts: tuple[int, int], detail: str) -> None:
        wanted, found = counts
        what: What = "missing" if wanted > found else ("extra" if found > wanted else "altered")
        first = at.number * STRETCH
        self._differences.add(
            Difference(
                spec.table,
                what,
                at.partition,
                source_offset=first,
                expected={"rows": wanted},
                found={"rows": found},
                detail=f"rows of source offsets {first} to {first + STRETCH - 1} are {detail}",
            ),
            times=max(1, abs(wanted - found)),
        )


def _row(spec: Rows, message: object) -> Row | None:
    try:
        return spec.row(record_of(message))  # type: ignore[arg-type] # a Message, which is generic in its stubs only
    except (ValueError, IndexError, OverflowError):
        return None  # told as a difference of its topic


def _stretch(row: Row) -> Stretch:
    return Stretch.of(int(str(row["source_partition"])), int(str(row["source_offset"])))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


#: Differences of a kind that are fetched one by one.
MOST = 10_000


def _bounded(
    pairs: Iterable[tuple[Row | None, Row | None]],
) -> Iterable[tuple[Row | None, Row | None]]:
    for number, pair in enumerate(pairs):
        if number == MOST:
            return
        yield pair
