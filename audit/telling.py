"""How differences show records: fields by name, and printable bytes as text."""

from collections.abc import Callable
from typing import Any

from audit import avro
from audit.columns import FRAME_BYTES
from audit.contract import REJECTION_HEADERS
from audit.foreign import TYPES
from audit.report import Difference, Differences, Fields, What, differing
from topics.source import Source

SHOWN_BYTES = 100
REASONS = ("INTERVAL", "PERIOD", "SEAL")


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
        except avro.Undecodable:
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
