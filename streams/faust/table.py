"""The running balances as a Faust table: one value type, one codec, one topic.

Replaces `faust.Table`'s store and changelog. The values live in the writers' RocksDB stores and are written
there only after the transaction that published them, so there is nothing to set here: a balance changes only
by a transaction in the input. The worker itself does not read it: Faust's assignor uses it to place warm copies,
and code that you add to the app can read balances from it, from any thread.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import faust

from schemas.partitioner import partition_of
from schemas.records import Balance
from streams.store import PartitionStore


class BalanceTable(faust.Table[str, Balance]):
    """wallet_id → Balance, for the partitions that this worker writes; the changelog is `balances`."""

    #: Gives the open store of a partition, None for one that another worker writes.
    store_of: Callable[[int], PartitionStore | None]
    partitions_of_topic: int

    def __getitem__(self, wallet_id: str) -> Balance:
        """The newest committed balance; KeyError for a wallet without one or of another worker."""
        wallet = wallet_id.encode()
        store = self.store_of(partition_of(wallet, self.partitions_of_topic))
        balance = store.balance(wallet) if store is not None else None
        if balance is None:
            raise KeyError(wallet_id)
        return balance

    def get(self, wallet_id: str, default: Any = None) -> Any:
        """The newest committed balance, or `default`."""
        try:
            return self[wallet_id]
        except KeyError:
            return default

    def __setitem__(self, wallet_id: str, balance: Balance) -> NoReturn:
        raise TypeError("a balance changes only by a transaction in the input: send one")

    def __delitem__(self, wallet_id: str) -> NoReturn:
        raise TypeError("a balance cannot be deleted: the ledger keeps everything")
