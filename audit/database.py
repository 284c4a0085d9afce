"""Compare PostgreSQL with what is certified: every row, what guards the tables, the seals, the balance functions.

The tables are read first, with the sinks' positions, in one snapshot: every row in it comes from a record that the
topics hold, so what is certified up to a later cut says what must be there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice

import numpy as np
import psycopg
from confluent_kafka import murmur2

from audit import avro, catalog, questions, rows
from audit.columns import Flags, Longs
from audit.contract import FIRST_MS
from audit.copied import Connection
from audit.digests import STRETCH, Digests, Stretch, different
from audit.expected import COUNTED, DETAILS, TABLES, ExpectedRows
from audit.questions import Row
from audit.report import Difference, Differences, What, differing
from audit.samples import History, Samples
from audit.seals import MonthSpans, Seals
from audit.stored import ROWS, Rows, of_us
from config.times import rfc3339
from topics.names import Topics
from topics.source import Source

#: Times to ask PostgreSQL about: within the years 1 to 9999.
LAST_MS = 253_402_300_799_999
#: Most stretches of a table to compare row by row; the others are counted.
EXPLAINED = 64
#: Most wallets and SEALs to report one by one.
MOST = 10_000
#: Most rows of a table to compare one by one.
MOST_ROWS = 200_000
ALL = np.iinfo(np.int64).max

Advance = Callable[[int], None]
Opens = Callable[[], AbstractContextManager[Connection]]
#: Reads one partition of a topic from its first record to an offset (excluded).
Records = Callable[[str, int, int], Iterator[list[Source]]]


class DatabaseAudit:
    """What PostgreSQL holds of these partitions; `limits` leaves out rows from a source offset on, by partition.

    `opens` begins a read-only transaction that sees one state.
    """

    def __init__(
        self,
        opens: Opens,
        topics: Topics,
        partitions: Sequence[int],
        of: int,
        key: bytes,
        differences: Differences,
        limits: Mapping[int, int],
    ) -> None:
        self._opens, self._topics, self._of = opens, topics, of
        self._all = len(partitions) == of
        self._partitions = partitions
        self._differences = differences
        self._limits = limits
        #: Tables whose rows cannot be read, and tables and functions that differ in the catalog.
        self._gone: set[str] = set()
        self._differing: set[str] = set()
        #: Tables that could not be read for that, and so were not compared.
        self.unread: list[str] = []
        self._seals = Seals()
        self._digests = {table: Digests(key) for table in COUNTED}
        #: Next offsets of the sinks as of the rows, by topic and partition.
        self.positions: dict[tuple[str, int], int] = {}
        self._wallets: list[tuple[Row | None, Row | None]] = []

    # -- 1. before the topics are judged

    def read(self, advance: Callable[[int], AbstractContextManager[Advance]]) -> None:
        """Count all rows, and report what is wrong without the topics: missing guards, SEALs without their entry.

        `advance` gets about how many rows there are, and returns the progress function for rows read.
        """
        asked = () if self._all else self._partitions
        with self._opens() as connection:
            for difference in catalog.differences(connection):
                self._differences.add(difference)
                self._learn(difference)
            self._unless_gone(connection, "sink_positions", lambda: self._read_positions(connection))
            about = sum(at for (_, partition), at in self.positions.items() if partition in self._partitions)
            with advance(about) as reached:
                self._unless_gone(
                    connection, "transactions", lambda: self._read_entries(connection, asked, reached)
                )
                self._unless_gone(
                    connection,
                    "transaction_snapshots",
                    lambda: rows.count_snapshots(
                        connection,
                        asked,
                        self._digests["transaction_snapshots"],
                        self._counts,
                        interval_only=bool(self._limits),
                    ),
                )
                self._unless_gone(
                    connection,
                    "rejections",
                    lambda: self._read_rejections(connection, asked),
                )
                reached(sum(self.rows.values()))
            self._unless_gone(connection, "wallets", lambda: self._read_wallets(connection))
            self._unless_gone(connection, "archive_seals", lambda: self._read_seals(connection))

    def _unless_gone(self, connection: Connection, table: str, read: Callable[[], None]) -> None:
        """Read a table; if it or a column is missing, the catalog check has already reported that."""
        try:
            if table not in self._gone:
                with connection.transaction():
                    read()
        except psycopg.errors.InsufficientPrivilege:
            if table not in self._differing:
                raise
            self._gone.add(table)  # row security, which the catalog check has reported
        except psycopg.ProgrammingError:
            if not self._differing:
                raise
            self._gone.add(table)
        if table in self._gone:
            self.unread.append(table)

    def _learn(self, difference: Difference) -> None:
        """Do not compare rows of tables whose columns differ."""
        self._differing.add(difference.where)
        versions = [*(difference.expected or {}).values(), *(difference.found or {}).values()]
        if any(str(line).startswith("column ") for lines in versions for line in lines):  # type: ignore[attr-defined] # lists of lines
            self._gone.add(difference.where)

    def _read_positions(self, connection: Connection) -> None:
        self.positions, others = questions.positions(connection, self._topics)
        for row in others:
            self._tell("sink_positions", None, row)

    def _read_entries(self, connection: Connection, asked: Sequence[int], reached: Advance) -> None:
        for done in rows.count_entries(connection, asked, self._digests["transactions"], self._counts):
            reached(done)

    def _read_rejections(self, connection: Connection, asked: Sequence[int]) -> None:
        digests = self._digests
        rows.count_rejections(connection, asked, digests["rejections"], digests[DETAILS], self._counts)

    def _read_wallets(self, connection: Connection) -> None:
        self._wallets = [*islice(filter(self._is_mine, questions.wrong_wallets(connection)), MOST)]
        for expected, found in islice(questions.wrong_seals(connection), MOST):
            self._tell("transaction_snapshots", expected, found)

    def _read_seals(self, connection: Connection) -> None:
        if self._all:
            for difference in self._seals.differences(connection):
                self._differences.add(difference)
            for wallet_id, sequence in islice(questions.unsealed(connection), MOST):
                self._differences.add(
                    Difference(
                        "transaction_snapshots",
                        "missing",
                        wallet_id=wallet_id,
                        sequence=sequence,
                        detail="a month is sealed, and no snapshot brings the wallet's balance forward",
                        check="seals",
                    )
                )

    # -- 2. after they are

    def compare(
        self, expected: ExpectedRows, known_wallets: set[str], places: MonthSpans, records: Records
    ) -> None:
        """Report every row that is missing, extra or altered. `known_wallets` have certified entries."""
        for spec in ROWS:
            stretches = different(expected.due(spec.table), self._digests[spec.table])
            if spec.table == "rejections":
                stretches |= self._other_details(expected)
            if stretches and spec.table not in self._gone:
                self._explain(spec, stretches, records)
        for wanted, found in self._wallets:
            wallet_id = str((wanted or found or {})["wallet_id"])
            # A wallet whose first entry's row is missing is already reported by that row.
            if wanted is not None or wallet_id not in known_wallets:
                self._tell("wallets", wanted, found)
        if self._all and not self._limits:
            for difference in self._seals.beside_ledger(places):
                self._differences.add(difference)

    def _other_details(self, expected: ExpectedRows) -> dict[Stretch, tuple[int, int]]:
        """Stretches whose details differ, as far as all of theirs are known."""
        return {
            at: counts
            for at, counts in different(expected.due(DETAILS), self._digests[DETAILS]).items()
            if at.number > expected.without_details.get(at.partition, -1) // STRETCH
        }

    def _is_mine(self, pair: tuple[Row | None, Row | None]) -> bool:
        known = pair[0] or pair[1] or {}
        return self._all or murmur2(str(known["wallet_id"]).encode(), self._of) in self._partitions

    def unwritten(self, expected: ExpectedRows) -> dict[str, int]:
        """How many certified rows of each table are beyond their sink's position."""
        return {table: count for table in TABLES if (count := expected.beyond[table].total())}

    @property
    def rows(self) -> dict[str, int]:
        """How many rows were read of each table."""
        return {table: self._digests[table].total() for table in TABLES}

    @property
    def suspected_wallets(self) -> set[str]:
        """Wallets that have a row and no row of a first entry."""
        return {str(found["wallet_id"]) for wanted, found in self._wallets if wanted is None and found}

    def ask_functions(self, samples: Samples) -> dict[str, int]:
        """Compare the balance functions with certified entries of some wallets; returns the number of answers."""
        asked = wallets = skipped = 0
        with self._opens() as connection:
            for wallet_id, history in samples.chosen():
                try:
                    answered = self._ask(connection, wallet_id, history)
                except questions.Unanswered as reason:
                    self._differences.add(
                        Difference(
                            "wallet_balance",
                            "altered",
                            wallet_id=wallet_id,
                            detail=str(reason),
                            check="functions",
                        )
                    )
                    continue
                wallets += answered > 0
                skipped += answered == 0
                asked += answered
        return {"wallets": wallets, "answers": asked, "wallets_in_flight": skipped}

    def _ask(self, connection: Connection, wallet_id: str, history: History) -> int:
        steps = [step for step in history.times() if FIRST_MS <= step.recorded_ms <= LAST_MS]
        recorded = [of_us(step.recorded_ms * 1_000) for step in steps]
        occurred = [of_us(step.occurred_us) for step in steps] if history.complete else []
        got = questions.answers(connection, wallet_id, recorded, occurred)
        if got.last_sequence != history.last_sequence:
            return 0  # newer entries are in flight; missing ones are reported as rows
        newest = history.steps[-1].balance
        statement = got.statement
        pairs: list[tuple[str, object, object]] = [
            ("wallet_balance", newest, got.balance),
            ("wallet_statement entries", history.last_sequence, statement[0]),
            ("wallet_statement sum", newest, statement[1]),
            ("wallet_statement last balance", newest, statement[2]),
        ]
        for step, at, answer, before in zip(
            steps, recorded, got.balances_at, got.balances_before, strict=True
        ):
            pairs.append((f"wallet_balance_at {rfc3339(at)}", history.balance_at(step.recorded_ms), answer))
            wanted = history.balance_before(step.recorded_ms)
            if wanted is not None:
                pairs.append((f"wallet_balance_before {rfc3339(at)}", wanted, before))
        for step, at, answer in zip(steps, occurred, got.effective_at, strict=False):
            wanted = history.effective_at(step.occurred_us)
            pairs.append((f"wallet_balance_effective_at {rfc3339(at)}", wanted, answer))
        for question, right, said in pairs:
            if right != said:
                self._differences.add(
                    Difference(
                        question.split()[0],
                        "altered",
                        wallet_id=wallet_id,
                        sequence=history.last_sequence,
                        expected={"answer": right},
                        found={"answer": said},
                        detail=question,
                        check="functions",
                    )
                )
        return len(pairs)

    # -- what differs

    def _counts(self, partitions: Longs, sources: Longs) -> Flags:
        """Which rows count: all but those after a given end."""
        counted: Flags = np.ones(len(partitions), np.bool_)
        for partition, limit in self._limits.items():
            counted &= (partitions != partition) | (sources < limit)
        return counted

    def _explain(self, spec: Rows, stretches: dict[Stretch, tuple[int, int]], records: Records) -> None:
        """Compare differing stretches row by row: the topic, which was judged before, with the table."""
        explained = [*stretches][:EXPLAINED]
        topic = getattr(self._topics, spec.topic)
        with self._opens() as connection:
            positions, _ = questions.positions(connection, self._topics)
            there = questions.stored(connection, spec.stored_in, explained, STRETCH)
            found = [*islice((row for row in there if self._counts_row(row)), MOST_ROWS)]
        wanted, first = self._from_topic(spec, topic, {*explained}, positions, records)
        # Rows from before the first record that a topic has kept are known only as a digest.
        kept = [row for row in found if row["source_offset"] >= first.get(row["source_partition"], -ALL)]
        reported = self._compare_rows(spec, wanted, kept)
        for stretch in explained:
            if stretch not in reported:
                self._tell_stretch(
                    spec, stretch, stretches[stretch], "as the topic, not as what is certified"
                )
        for stretch in [*stretches][EXPLAINED:]:
            self._tell_stretch(spec, stretch, stretches[stretch], "not looked at one by one")

    def _from_topic(
        self,
        spec: Rows,
        topic: str,
        stretches: set[Stretch],
        positions: Mapping[tuple[str, int], int],
        records: Records,
    ) -> tuple[list[Row], dict[int, int]]:
        """The rows according to the topic, and by partition the first source that it names."""
        wanted: list[Row] = []
        first: dict[int, int] = {}
        for partition in sorted({stretch.partition for stretch in stretches}):
            if (topic, partition) not in positions or partition >= self._of:
                continue
            for some in records(topic, partition, positions[topic, partition]):
                for record in some:
                    row = _row(spec, record)
                    if row:
                        source = int(row["source_offset"])
                        first[partition] = min(source, first.get(partition, source))
                    if row and _stretch(row) in stretches and self._counts_row(row):
                        wanted.append(row)
        return wanted, first

    def _counts_row(self, row: Row) -> bool:
        within = int(row["source_offset"]) < self._limits.get(int(row["source_partition"]), ALL)
        return within and not (self._limits and row.get("reason") == "PERIOD")

    def _compare_rows(self, spec: Rows, wanted: Iterable[Row], found: Iterable[Row]) -> set[Stretch]:
        """Report each difference; returns the stretches that have one."""
        reported: set[Stretch] = set()
        left = {tuple(row[name] for name in spec.identity): row for row in wanted}
        for row in found:
            expected = left.pop(tuple(row[name] for name in spec.identity), None)
            if expected != row:
                self._tell(spec.table, expected, row)
                reported |= {_stretch(one) for one in (expected, row) if one}
        for row in left.values():
            self._tell(spec.table, row, None)
            reported.add(_stretch(row))
        return reported

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
                check="rows",
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
                check="rows",
            ),
            times=max(1, abs(wanted - found)),
        )


def _row(spec: Rows, record: Source) -> Row | None:
    try:
        return spec.row(record)
    except (ValueError, KeyError, OverflowError, avro.Undecodable):
        return None  # reported as a difference in its topic


def _stretch(row: Row) -> Stretch:
    return Stretch.of(int(row["source_partition"]), int(row["source_offset"]))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
