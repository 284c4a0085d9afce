"""The fold of one partition: records in, entries, rejections, snapshots and balances out.

What is too large, does not decode or lies in the wrong partition is rejected here. Of the rest, the compiled loop posts
the plain ones, and `wallet.apply` decides the others. What it reads of the past comes through `Past`, what it decides
leaves as `Outputs`, and nothing else changes. Only the codec may ask outside: a worker's asks the registry once about
each schema id that is new to it.
The same records under the same rules give the same bytes: a rebuild relies on it, and an audit checks it.
"""

from collections.abc import Sequence

from config.decisions import Decisions
from schemas import native
from schemas.codec import TransactionCodec, chain, encode_entry, encode_snapshot, frame
from schemas.digest import new_sha256
from schemas.native.balances import encode_balances
from schemas.partitioner import partition_of
from schemas.records import Balance, Order, Reason, Rejected
from schemas.rules import EARLIEST_MS
from schemas.versions import SchemaIds
from streams.batch import Derived, Outputs, Past, posted_id
from streams.wallet import Known, Policy, Posted, apply, snapshots
from topics.source import Headers, Sizes, Source

FIRST_PREVIOUS_HASH = bytes(32)
#: Records taken from bytes to entries together: enough to make a look-up cheap, few enough that they are
#: still in the processor's cache at the next step.
STRETCH_RECORDS = 500

#: Remarks behind a detail, for people.
CUT_NAME = "; a header's name is cut at U+0000, as every client of librdkafka reads it"
ID_IN_HEADER = (
    "; its schema id is in the header __value_schema_id: set the serializer to put it in front of the value"
)

#: Makes a named tuple of the fold at a third of its constructor's cost; eight are made for every event.
_new = tuple.__new__


class Fold:
    """Folds the records of one partition, batch by batch."""

    def __init__(
        self,
        topic: str,
        partition: int,
        pipeline: Decisions,
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
        self._read_compiled, self._post_compiled = native.orders, native.post
        #: What the compiled loop needs to know of a partition (`post` in schemas/native/_native.c).
        self._plan = (
            self.entry_frame,
            partition,
            self.policy.snapshot_every,
            self.policy.overdraft_allowed,
            Order,
            Balance,
            Known,
            Derived,
            new_sha256,
        )

    def outputs(self, records: Sequence[Source], next_offset: int, recorded_ms: int) -> Outputs:
        """Fold a batch that follows everything `past` knows.

        `recorded_ms` is the recorded_at of the partition's newest entry. Neither it nor `past` is changed.
        """
        out = Outputs(next_offset, recorded_ms)
        for start in range(0, len(records), STRETCH_RECORDS):
            # A copy, because the compiled code takes only lists.
            self._fold_stretch([*records[start : start + STRETCH_RECORDS]], out)
        if records:
            out.next_offset = records[-1].offset + 1
        out.changelog = encode_balances(out.balances)
        return out

    def _fold_stretch(self, records: list[Source], out: Outputs) -> None:
        read, ids = self._read_all(records)
        # Looked up together: one call into the store for hundreds of keys, most of which it does not hold.
        known = self.past.known([one for one in ids if one is not None])
        balances = self.past.balances(
            {one[1] for one in read if isinstance(one, Order)} - out.balances.keys()
        )
        at = 0
        while (at := self._fold_usual(records, read, ids, at, known, balances, out)) < len(records):
            record, one = records[at], read[at]
            rejected = self._decide(record, one, known, balances, out) if isinstance(one, Order) else one
            if rejected is not None:
                out.rejections.append(self._rejection(record, rejected))
            at += 1

    def _fold_usual(
        self,
        records: list[Source],
        read: list[Order | Rejected],
        ids: list[bytes | None],
        at: int,
        known: dict[bytes, Known],
        balances: dict[bytes, Balance],
        out: Outputs,
    ) -> int:
        """Post the plain records from `at` on, if the loop for that is compiled.

        Returns the index of the first one that `_decide` must judge.
        """
        if self._post_compiled is not None:
            at, out.recorded_ms = self._post_compiled(
                self._plan,
                records,
                read,
                ids,
                at,
                known,
                balances,
                out.entries,
                out.balances,
                out.new_ids,
                out.recorded_ms,
            )
        return at

    def _read_all(self, records: list[Source]) -> tuple[list[Order | Rejected], list[bytes | None]]:
        """What each record holds, and the key in the id index of each order."""
        if self._read_compiled is None:
            read = [self._read(record) for record in records]
            return read, [posted_id(one[1], one[0]) if isinstance(one, Order) else None for one in read]
        orders, ids = self._read_compiled(self.codec.frame, records, self.max_record_bytes, Order, new_sha256)
        for at, one in enumerate(orders):
            if one is None:
                orders[at] = order = self._read(records[at])
                ids[at] = posted_id(order[1], order[0]) if isinstance(order, Order) else None
        return orders, ids

    def _read(self, record: Source) -> Order | Rejected:
        """An order, or the first reason why a record is no transaction: everything that needs no history."""
        sizes = Sizes.of(record)
        if sizes.exceed(self.max_record_bytes):
            # Since its bytes are not kept.
            detail = f"{sizes.total} bytes, limit {self.max_record_bytes}: {sizes}"
            return Rejected(Reason.TOO_LARGE, detail)
        order = self.codec.order(record.value, record.offset)
        if (
            isinstance(order, Rejected)
            and order.reason is Reason.UNDECODABLE
            and _has_id_in_header(record.headers)
        ):
            return Rejected(order.reason, order.detail + ID_IN_HEADER)
        if isinstance(order, Order) and record.key != order.wallet:
            return Rejected.because(Reason.MISROUTED, f"the key is not the wallet id {order.wallet.decode()}")
        return order

    def _decide(
        self,
        record: Source,
        order: Order,
        known: dict[bytes, Known],
        balances: dict[bytes, Balance],
        out: Outputs,
    ) -> Rejected | None:
        """Give a transaction its entry, or say why it is not accepted.

        `known` and `balances` come from the past; what this batch has done so far is in `out`.
        """
        wallet = order[1]
        before = out.balances.get(wallet) or balances.get(wallet)
        # A wallet that has a balance here passed this test before: its key need not be hashed again.
        if before is None and (home := partition_of(wallet, self.partitions)) != self.partition:
            return Rejected(Reason.MISROUTED, f"the key belongs to partition {home}")
        posted = posted_id(wallet, order[0])
        recorded_ms = max(out.recorded_ms, record[1], EARLIEST_MS)
        outcome = apply(before, order, out.new_ids.get(posted) or known.get(posted), recorded_ms, self.policy)
        if isinstance(outcome, Rejected):
            return outcome
        out.recorded_ms = recorded_ms
        out.balances[wallet] = self._enter(order, outcome, before, record[0], out)
        out.new_ids[posted] = _new(Known, (order[6], recorded_ms))
        return None

    def _enter(
        self, order: Order, posted: Posted, before: Balance | None, offset: int, out: Outputs
    ) -> Balance:
        """Write the entry of a posted transaction and the snapshots it causes; returns the new balance."""
        sequence, balance = posted
        partition, recorded_ms, wallet = self.partition, out.recorded_ms, order[1]
        entry = encode_entry(order[5], sequence, balance, recorded_ms, partition, offset)
        if before is None:
            wallet_id, link = wallet.decode(), chain(FIRST_PREVIOUS_HASH, entry)
        else:
            wallet_id, link = before[0], chain(before[7], entry)
        fields = wallet_id, order[4], balance, sequence, recorded_ms, partition, offset, link
        after: Balance = _new(Balance, fields)
        for brought_forward, reason in snapshots(before, after, self.policy):
            value = self.snapshot_frame + encode_snapshot(brought_forward, reason)
            out.snapshots.append(Derived(wallet, value, brought_forward.recorded_ms))
        out.entries.append(_new(Derived, (wallet, self.entry_frame + entry + link, recorded_ms, None)))
        return after

    def balance_records(self, out: Outputs) -> list[Derived]:
        """One Balance for every wallet that the batch touched: the changelog of the table."""
        header, balances = self.balance_frame, out.balances
        return [Derived(wallet, header + body, balances[wallet][4]) for wallet, body in out.changelog.items()]

    def _rejection(self, record: Source, rejected: Rejected) -> Derived:
        """A record kept as it came, with its reason in the headers; of a too large one, only the headers."""
        detail, at_ms = rejected.detail, max(record.timestamp_ms, EARLIEST_MS)
        if Sizes.of(record).nul:
            detail += CUT_NAME
        why: list[tuple[str, str | bytes | None]] = [
            ("rejection.reason", rejected.reason.encode()),
            ("rejection.detail", detail.encode()),
            ("rejection.topic", self.topic.encode()),
            ("rejection.partition", b"%d" % self.partition),
            ("rejection.offset", b"%d" % record.offset),
            ("rejection.at", b"%d" % at_ms),
        ]
        if rejected.reason is Reason.TOO_LARGE:
            return Derived(None, None, at_ms, why)
        return Derived(record.key, record.value, at_ms, [*record.headers, *why])


def _has_id_in_header(headers: Headers) -> bool:
    """Whether a serializer has put the schema's id (0, 4 bytes) or its GUID (1, 16 bytes) there."""
    return any(
        name == "__value_schema_id" and content and (content[0], len(content)) in {(0, 5), (1, 17)}
        for name, content in headers
    )
