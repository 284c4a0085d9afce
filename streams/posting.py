"""The fold of one partition: records in, entries, rejections, snapshots and balances out.

Pure like `wallet.apply`, which it calls for every record that decodes: what it reads of the past comes
through `Past`, what it decides leaves as `Outputs`. The worker folds what it fetches, an audit or a rebuild
folds what the topic holds, and both get the same bytes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from config.pipeline import Pipeline
from schemas.codec import (
    TransactionCodec,
    chain,
    content_digest,
    encode_balance,
    encode_entry,
    encode_snapshot,
    frame,
)
from schemas.partitioner import partition_of
from schemas.records import Balance, Reason, Rejected, Transaction
from schemas.registry import SchemaIds
from streams.batch import Derived, Outputs, Past, Source, posted_id
from streams.wallet import Known, Policy, Position, Posted, apply, snapshots

FIRST_PREVIOUS_HASH = bytes(32)
#: Records taken from bytes to entries together: so many that a look-up is cheap, so few that what they become
#: is still in the processor's cache at the next step.
STRETCH_RECORDS = 500
#: librdkafka reads no record with more than 100,000 headers, and a rejection adds six.
MOST_HEADERS = 100_000 - 6

#: Makes a named tuple of the fold at a third of its constructor's cost; eight are made for every event.
_new = tuple.__new__


class Readable(NamedTuple):
    """A record that decodes to a valid transaction, under its wallet's own key."""

    record: Source
    transaction: Transaction
    body: bytes
    wallet: bytes
    posted_id: bytes


class Fold:
    """Folds the records of one partition, batch by batch."""

    def __init__(
        self,
        topic: str,
        partition: int,
        pipeline: Pipeline,
        codec: TransactionCodec,
        ids: SchemaIds,
        past: Past,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.partitions = pipeline.partitions
        self.max_record_bytes = pipeline.max_record_bytes
        self.policy = Policy.of(pipeline)
        self.codec = codec
        self.past = past
        self.entry_frame = frame(ids.ledger_entry)
        self.balance_frame = frame(ids.balance)
        self.snapshot_frame = frame(ids.snapshot)

    def post(self, records: Sequence[Source], next_offset: int, recorded_ms: int) -> Outputs:
        """Fold a run of records that follows everything `past` knows.

        `recorded_ms` is the recorded_at of the partition's newest entry. Neither it nor `past` is changed.
        """
        out = Outputs(next_offset, recorded_ms)
        for start in range(0, len(records), STRETCH_RECORDS):
            self._post_stretch(records[start : start + STRETCH_RECORDS], out)
        if records:
            out.next_offset = records[-1].offset + 1
        return out

    def _post_stretch(self, records: Sequence[Source], out: Outputs) -> None:
        read = [self._read(record) for record in records]
        readable = [one for one in read if isinstance(one, Readable)]
        # Looked up together: one call into the store for hundreds of keys, most of which it does not hold.
        known = self.past.known([one.posted_id for one in readable])
        balances = self.past.balances({one.wallet for one in readable} - out.balances.keys())
        for record, one in zip(records, read, strict=True):
            rejected = self._decide(one, known, balances, out) if isinstance(one, Readable) else one
            if rejected is not None:
                out.rejections.append(self._rejection(record, rejected))

    def _read(self, record: Source) -> Readable | Rejected:
        """From bytes to a transaction, or the reason why they are none: all that needs no history."""
        _, _, key, value, headers = record
        size = (len(key) if key else 0) + (len(value) if value else 0)
        if headers:
            size += sum(len(name.encode()) + len(content or b"") for name, content in headers)
        if size > self.max_record_bytes or len(headers) > MOST_HEADERS:
            return Rejected(Reason.TOO_LARGE, _sizes(record, size, self.max_record_bytes))
        decoded = self.codec.decode(value)
        if isinstance(decoded, Rejected):
            return decoded
        transaction, body = decoded
        wallet = transaction[1].encode()
        if key != wallet:
            return Rejected.because(Reason.MISROUTED, f"the key is not the wallet id {transaction.wallet_id}")
        return _new(Readable, (record, transaction, body, wallet, posted_id(wallet, transaction[0])))

    def _decide(
        self, one: Readable, known: dict[bytes, Known], balances: dict[bytes, Balance], out: Outputs
    ) -> Rejected | None:
        """From a transaction to its entry, or the reason why it is not accepted.

        `known` and `balances` are what the past holds; what this batch did before is in `out`.
        """
        record, transaction, body, wallet, posted = one
        before = out.balances.get(wallet) or balances.get(wallet)
        # A wallet with a balance here has passed this test before: its key is hashed until then only.
        if before is None and (home := partition_of(wallet, self.partitions)) != self.partition:
            return Rejected(Reason.MISROUTED, f"the key belongs to partition {home}")
        recorded_ms = max(out.recorded_ms, record[1])
        content = content_digest(body, transaction)
        at = _new(Position, (self.partition, record[0], recorded_ms))
        seen = out.new_ids.get(posted) or known.get(posted)
        outcome = apply(before, transaction, content, seen, at, self.policy)
        if isinstance(outcome, Rejected):
            return outcome
        out.balances[wallet] = self._enter(one, outcome, before, at, out)
        out.new_ids[posted] = _new(Known, (content, recorded_ms))
        out.recorded_ms = recorded_ms
        return None

    def _enter(
        self, one: Readable, posted: Posted, before: Balance | None, at: Position, out: Outputs
    ) -> Balance:
        """Write the entry of a posted transaction and the snapshots it causes; returns the new balance."""
        _, transaction, body, wallet, _ = one
        sequence, balance = posted
        partition, offset, recorded_ms = at
        entry = encode_entry(body, sequence, balance, recorded_ms, partition, offset)
        link = chain(FIRST_PREVIOUS_HASH if before is None else before[7], entry)
        fields = transaction[1], transaction[4], balance, sequence, recorded_ms, partition, offset, link
        after: Balance = _new(Balance, fields)
        for brought_forward, reason in snapshots(before, after, self.policy):
            value = self.snapshot_frame + encode_snapshot(brought_forward, reason)
            out.snapshots.append(Derived(wallet, value, brought_forward.recorded_ms))
        out.entries.append(_new(Derived, (wallet, self.entry_frame + entry + link, recorded_ms, None)))
        return after

    def balance_records(self, out: Outputs) -> list[Derived]:
        """One Balance for every wallet that the run touched: the changelog of the table."""
        header = self.balance_frame
        return [
            Derived(wallet, header + encode_balance(balance), balance[4])
            for wallet, balance in out.balances.items()
        ]

    def _rejection(self, record: Source, rejected: Rejected) -> Derived:
        """A record kept as it came, with its reason in the headers; of a too large one, only the headers."""
        detail = rejected.detail
        if any("\0" in name for name, _ in record.headers):
            detail += "; a header's name is cut at U+0000, as every client of librdkafka reads it"
        why: list[tuple[str, str | bytes | None]] = [
            ("rejection.reason", rejected.reason.encode()),
            ("rejection.detail", detail.encode()),
            ("rejection.topic", self.topic.encode()),
            ("rejection.partition", b"%d" % self.partition),
            ("rejection.offset", b"%d" % record.offset),
            ("rejection.at", b"%d" % record.timestamp_ms),
        ]
        if rejected.reason is Reason.TOO_LARGE:
            return Derived(None, None, record.timestamp_ms, why)
        return Derived(record.key, record.value, record.timestamp_ms, [*record.headers, *why])


def _sizes(record: Source, size: int, limit: int) -> str:
    """What a too large record measures, since its bytes are not kept."""
    key, value = len(record.key or b""), len(record.value or b"")
    headers = f"{len(record.headers)} headers {size - key - value}"
    return f"{size} bytes, limit {limit}: key {key}, value {value}, {headers}"
