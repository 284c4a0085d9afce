"""Entries that retention has deleted, recomputed from the input by the slow fold.

There is nothing to check them against, but later entries follow from them. The ids are on disk.
"""

from pathlib import Path
from shutil import rmtree

from rocksdict import Rdict

from audit.certify import frame
from audit.contract import Contract, Reason
from audit.fold import Fold
from topics.source import Source

FOLDER = "unwitnessed"


class Unwitnessed:
    """Folds one partition from its first record on; give it every record."""

    def __init__(self, contract: Contract, partition: int, folder: Path) -> None:
        self._partition = partition
        self._frame = frame(contract.entry_schema_id)
        self._path = folder / FOLDER
        self._ids = Rdict(str(self._path))
        self._fold = Fold(contract, posted=self._ids)

    def outcome(self, record: Source) -> Source | Reason:
        """The entry that a record became, or why it was rejected."""
        outcome = self._fold.step(self._partition, record)
        if isinstance(outcome, Reason):
            return outcome
        balance = outcome.balance
        key = balance.wallet_id.encode()
        return Source(-1, balance.recorded_ms, key, self._frame + outcome.body, ())

    def close(self) -> None:
        """Forget what is on disk."""
        self._ids.close()
        rmtree(self._path)
