"""The worker's own fold, watched: what it posts, under which ids for the second time, and in which groups."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

from rocksdict import WriteBatch

from config.pipeline import Pipeline
from schemas.codec import TransactionCodec, WriterSchema, decode_transaction
from schemas.records import CREDIT, Balance, Order, Transaction
from schemas.registry import SchemaIds
from streams.batch import Outputs, Past, posted_id
from streams.posting import Fold
from streams.store import StoreMemory
from streams.wallet import Posted

Entered = tuple[Balance, Transaction]


class Again(NamedTuple):
    """An entry whose transaction id the wallet had posted before, longer ago than the pipeline remembers."""

    balance: Balance
    transaction: Transaction
    posted_before_ms: int


class WatchedFold(Fold):
    """`streams.posting.Fold`, which also tells each entry's balance; its outputs keep a batch's last ones only.

    It reads, posts and writes in Python throughout: what a worker does compiled is checked by an audit, not repeated.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        pipeline: Pipeline,
        writers: Callable[[int, int], WriterSchema | None],
        ids: SchemaIds,
        past: Past,
    ) -> None:
        codec = TransactionCodec(pipeline.transaction_schema_id, writers, compiled=False)
        super().__init__(topic, partition, pipeline, codec, ids, past)
        #: What was entered since whoever folds last emptied these.
        self.entered: list[Entered] = []
        self.again: list[Again] = []

    def _enter(
        self, order: Order, posted: Posted, before: Balance | None, offset: int, out: Outputs
    ) -> Balance:
        after = super()._enter(order, posted, before, offset, out)
        transaction = decode_transaction(order.body)
        self.entered.append((after, transaction))
        if self.policy.id_window_ms is not None:
            self._remember_again(order, transaction, after, out)
        return after

    def _remember_again(self, order: Order, transaction: Transaction, after: Balance, out: Outputs) -> None:
        """What is known of the id of an entry that was accepted all the same was beyond the window."""
        posted = posted_id(order.wallet, order.transaction_id)
        known = out.new_ids.get(posted) or self.past.known([posted]).get(posted)
        if known is not None:
            self.again.append(Again(after, transaction, known.recorded_ms))


class GroupSums:
    """The sum of each group's legs by currency, on disk: groups may be as many as entries.

    A group in balance is forgotten, so what is stored is what is open.
    """

    def __init__(self, path: Path, memory: StoreMemory) -> None:
        self._db = memory.open(path)

    def add(self, entered: Iterable[Entered]) -> None:
        """Add the legs among these entries."""
        sums: dict[bytes, int] = {}
        for _, transaction in entered:
            group_id = transaction[6]
            if group_id is not None:
                key = f"{group_id}\0{transaction[4]}".encode()
                amount = transaction[3] if transaction[2] == CREDIT else -transaction[3]
                sums[key] = sums.get(key, 0) + amount
        if not sums:
            return
        before = cast("list[bytes | None]", self._db.get([*sums]))
        batch = WriteBatch(raw_mode=True)
        for (key, amount), stored in zip(sums.items(), before, strict=True):
            total = amount + int(stored or 0)
            if total:
                batch.put(key, b"%d" % total)
            elif stored is not None:
                batch.delete(key)
        self._db.write(batch)

    def unbalanced(self) -> Iterator[tuple[str, str, int]]:
        """Group, currency and sum of every group that is not in balance."""
        for key, total in self._db.items():
            group_id, currency = cast("bytes", key).decode().split("\0")
            yield group_id, currency, int(total)

    def close(self) -> None:
        """Write what is in memory and let go of the folder."""
        self._db.flush()
        self._db.close()
