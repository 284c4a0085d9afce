"""Sealed months without their input: what the entries of a month can prove about each other.

Slow and obvious: it reads entries one by one, and trusts the first entry that it sees of a wallet.
"""

from hashlib import sha256
from typing import Any

import numpy as np

from audit import avro
from audit.columns import HASH_BYTES
from audit.contract import FIRST_MS, FRAME_BYTES
from audit.report import Differences, Teller
from audit.seals import Content
from topics.source import Source


class Month:
    """The entries of one month, partition by partition in the order of the ledger.

    `wallets` are the newest entries of wallets so far, and are carried on from month to month.
    """

    def __init__(
        self, topic: str, name: str, frame: bytes, wallets: dict[str, avro.Entry], differences: Differences
    ) -> None:
        self._topic, self._name, self._frame = topic, name, frame
        self._wallets, self._differences = wallets, differences
        self._ranges: dict[int, tuple[int, int]] = {}
        self._entries, self._amount, self._hash = 0, 0, sha256()
        self._newest: tuple[int, int, int] = (-1, 0, 0)

    def add(self, partition: int, records: list[Source]) -> None:
        """Judge the next entries of a partition."""
        tell = Teller(self._topic, partition, self._differences, avro.read_entry)
        for record in records:
            value = record.value or b""
            first = self._ranges.get(partition, (record.offset, 0))[0]
            self._ranges[partition] = first, record.offset + 1
            self._entries += 1
            self._hash.update(value[-HASH_BYTES:])
            try:
                entry = avro.read_entry(value[FRAME_BYTES:])
            except avro.Undecodable as reason:
                tell("fidelity", "altered", record, None, f"it is no entry: {reason}")
                continue
            self._amount += entry.transaction.signed
            for check, detail in self._wrong(partition, record, entry):
                tell(check, "altered", record, None, detail)
            self._wallets[entry.transaction.wallet_id] = entry
            self._newest = partition, entry.recorded_ms, entry.source_offset

    @property
    def content(self) -> Content:
        """What a seal of these entries covers."""
        ranges = tuple((partition, *ends) for partition, ends in sorted(self._ranges.items()))
        return Content(self._entries, self._amount, self._hash.digest(), ranges)

    def _wrong(self, partition: int, record: Source, entry: avro.Entry) -> list[tuple[str, str]]:
        one, value = entry.transaction, record.value or b""
        before = self._wallets.get(one.wallet_id)
        _, recorded_ms, source = self._newest if self._newest[0] == partition else (partition, FIRST_MS, -1)
        written = avro.write_transaction(one) + b"".join(map(avro.long, entry[1:6]))
        last: Any = before.hash if before else (bytes(HASH_BYTES) if entry.sequence == 1 else None)
        balance = before.balance if before else (0 if entry.sequence == 1 else entry.balance - one.signed)
        sequence = before.sequence + 1 if before else entry.sequence
        asked = (
            ("fidelity", value[:FRAME_BYTES] == self._frame, "another schema id"),
            ("fidelity", value[FRAME_BYTES:-HASH_BYTES] == written, "its bytes are not canonical"),
            ("fidelity", record.key == one.wallet_id.encode(), "its key is not its wallet"),
            ("fidelity", record.timestamp_ms == entry.recorded_ms, "its time is not its recorded_at"),
            ("conservation", entry.source_partition == partition, "it names another partition"),
            ("conservation", entry.source_offset > source, "it does not come after the entry before it"),
            ("arithmetic", entry.recorded_ms >= recorded_ms, "it was recorded before the entry before it"),
            ("arithmetic", self._is_of_month(entry.recorded_ms), f"it was not recorded in {self._name}"),
            ("arithmetic", entry.sequence == sequence, f"its sequence must be {sequence}"),
            ("arithmetic", entry.balance == balance + one.signed, f"the balance before it is {balance}"),
            ("arithmetic", before is None or before.transaction.currency == one.currency, "another currency"),
            (
                "chain",
                last is None or entry.hash == sha256(last + written).digest(),
                "its hash does not follow from the hash before it",
            ),
        )
        return [(check, detail) for check, right, detail in asked if not right]

    def _is_of_month(self, recorded_ms: int) -> bool:
        return str(np.datetime64(recorded_ms, "ms").astype("datetime64[M]")) == self._name
