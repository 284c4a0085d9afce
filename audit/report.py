"""The result of an audit: all differences counted, the first ones kept with both versions, and the coverage.

Differences show records by their fields' names, and printable bytes as text.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from audit.avro import Undecodable
from audit.contract import FRAME_BYTES, REASONS, REJECTION_HEADERS, TYPES
from topics.source import Source

What = Literal["missing", "extra", "altered", "out of order", "unprotected"]
Fields = dict[str, object]

#: Most characters of a value to show.
SHOWN_CHARACTERS = 400
SHOWN_BYTES = 100


@dataclass(frozen=True)
class Difference:
    """One thing that differs from the fold: what, where, and both versions of the fields that differ."""

    where: str
    what: What
    partition: int | None = None
    offset: int | None = None
    source_offset: int | None = None
    wallet_id: str | None = None
    sequence: int | None = None
    expected: Fields | None = None
    found: Fields | None = None
    detail: str = ""
    #: The check that found it: see docs/operations/verify.md.
    check: str = ""


class Differences:
    """Counts every difference and keeps the first `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.shown: list[Difference] = []
        self.counts: Counter[tuple[str, What]] = Counter()

    def add(self, difference: Difference, times: int = 1) -> None:
        """Count a difference, which may stand for several of its kind; keep it while there is room."""
        self.counts[difference.where, difference.what] += times
        if len(self.shown) < self._limit:
            self.shown.append(difference)

    def take(self, other: "Differences") -> None:
        """Add others; keep the first of them while there is room."""
        self.counts += other.counts
        self.shown += other.shown[: max(0, self._limit - len(self.shown))]

    @property
    def total(self) -> int:
        """How many there are, shown or not."""
        return self.counts.total()


def differing(expected: Fields, found: Fields) -> tuple[Fields, Fields]:
    """Both versions without the fields that agree."""
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    return (
        {name: expected[name] for name in names if name in expected},
        {name: found[name] for name in names if name in found},
    )


class Teller:
    """Reports what is wrong with the records of one partition of one topic; `read` decodes a body."""

    def __init__(
        self, topic: str, partition: int, differences: Differences, read: Callable[[bytes], Any] | None
    ) -> None:
        self._topic, self._partition = topic, partition
        self._differences, self._read = differences, read

    def __call__(
        self, check: str, what: What, found: Source | None, wanted: Source | None = None, detail: str = ""
    ) -> None:
        """Report a difference: which check found it, what is there, and what must be."""
        is_now = None if found is None else self.fields(found)
        must_be = None if wanted is None else self.fields(wanted)
        known = (is_now if what in {"extra", "out of order"} else must_be or is_now) or {}
        if is_now is not None and must_be is not None and what == "altered":
            must_be, is_now = differing(must_be, is_now)
        source = known.get("source_offset", known.get("rejection.offset"))
        wallet_id, sequence = known.get("wallet_id"), known.get("sequence")
        self._differences.add(
            Difference(
                self._topic,
                what,
                self._partition,
                found.offset if found is not None and found.offset >= 0 else None,
                _offset(source),
                wallet_id if isinstance(wallet_id, str) else None,
                sequence if isinstance(sequence, int) else None,
                must_be,
                is_now,
                detail,
                check,
            )
        )

    def at_source(self, check: str, what: What, source: int, wallet_id: str | None, detail: str) -> None:
        """Report what is wrong with the outcome of an input record."""
        self._differences.add(
            Difference(
                self._topic, what, self._partition, None, source, wallet_id, detail=detail, check=check
            )
        )

    def fields(self, record: Source) -> Fields:
        """All fields of a record; never raises."""
        if self._read is None:
            return _rejection(record)
        fields: Fields = {"key": shown(record.key), "timestamp_ms": record.timestamp_ms}
        if record.headers:
            fields["headers"] = [[name, shown(content)] for name, content in record.headers]
        value = record.value or b""
        try:
            read = self._read(value[FRAME_BYTES:])
        except Undecodable:
            return fields | {"value": shown(record.value)}
        fields["schema"] = value[:FRAME_BYTES].hex()
        named: dict[str, Any] = read._asdict()
        transaction = named.pop("transaction", None)
        if transaction is not None:
            named = transaction._asdict() | {"type": TYPES[transaction.type]} | named
        if isinstance(reason := named.get("reason"), int):
            named["reason"] = REASONS[reason]
        return fields | {name: shown(one) if isinstance(one, bytes) else one for name, one in named.items()}


def _offset(named: object) -> int | None:
    text = str(named)
    return int(text) if text.isascii() and text.isdecimal() else None


def _rejection(record: Source) -> Fields:
    named = [(name, shown(content)) for name, content in record.headers]
    ours = len(REJECTION_HEADERS)
    came: Fields = {
        "key": shown(record.key),
        "value": shown(record.value),
        "timestamp_ms": record.timestamp_ms,
        "headers": [[name, content] for name, content in named[:-ours]],
    }
    return came | dict(named[-ours:])


def shown(value: bytes | None) -> str | None:
    """Bytes as text if printable, otherwise in hex; cut if long."""
    if value is None:
        return None
    cut = value[:SHOWN_BYTES]
    try:
        text = cut.decode()
    except UnicodeDecodeError:
        text = "\0"
    legible = text if text.isprintable() else f"0x{cut.hex()}"
    return legible if len(value) <= SHOWN_BYTES else f"{legible}... ({len(value)} bytes)"


@dataclass(frozen=True)
class Finding:
    """Something worth a look that is not a difference, such as a group whose legs do not sum to zero."""

    kind: str
    subject: str
    detail: str


@dataclass
class Findings:
    """Counts every finding and keeps the first `limit` of them."""

    limit: int
    total: int = 0
    shown: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count a finding; keep it while there is room."""
        self.total += 1
        if len(self.shown) < self.limit:
            self.shown.append(finding)

    def take(self, other: "Findings") -> None:
        """Add others; keep the first of them while there is room."""
        self.total += other.total
        self.shown += other.shown[: max(0, self.limit - len(self.shown))]


@dataclass
class Covered:
    """What was compared in one partition: input records from one offset to another (excluded).

    `in_flight` counts offsets of the input beyond `to_offset`: not decided yet, or decided meanwhile.
    """

    partition: int
    from_offset: int
    to_offset: int
    in_flight: int
    records: int = 0
    entries: int = 0
    rejections: int = 0
    snapshots: int = 0
    balances: int = 0
    not_kept: int = 0
    #: Credits minus debits of the entries in minor units, all currencies added.
    amount: int = 0
    #: SHA-256 over the entries' hashes, and over the six headers of the rejections, in their order; in hex.
    entries_hash: str = ""
    rejections_hash: str = ""

    @property
    def conserved(self) -> bool:
        """The conservation law, as far as this audit saw it."""
        return self.records == self.entries + self.rejections


@dataclass
class Report:
    """The outcome of an audit; `rows` and `functions` are empty if PostgreSQL was left out."""

    prefix: str
    policy: Fields
    differences: Differences
    findings: Findings
    covered: list[Covered] = field(default_factory=list)
    since: str | None = None
    saved: str | None = None
    rows: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    took_s: float = 0.0
    folding_s: float = 0.0
    folding_cpu_s: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether nothing differs."""
        return not self.differences.total

    def to_json(self) -> Fields:
        """Everything, for programs."""
        return {
            "clean": self.clean,
            "prefix": self.prefix,
            "policy": self.policy,
            "since": self.since,
            "saved": self.saved,
            "covered": [asdict(one) | {"conserved": one.conserved} for one in self.covered],
            "rows": self.rows,
            "functions": self.functions,
            "differences": self.differences.total,
            "counts": [
                {"where": where, "what": what, "count": count}
                for (where, what), count in sorted(self.differences.counts.items())
            ],
            "shown": [asdict(one) for one in self.differences.shown],
            "findings": self.findings.total,
            "findings_shown": [asdict(one) for one in self.findings.shown],
            "notes": self.notes,
            "took_s": round(self.took_s, 3),
            "folding_s": round(self.folding_s, 3),
            "folding_cpu_s": round(self.folding_cpu_s, 3),
        }
