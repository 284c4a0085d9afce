"""The local state of one partition: RocksDB with balances, the id index and a cursor.

Everything here can be rebuilt from `balances` and `ledger`, so nothing is synced to disk: after a machine
failure the store is merely behind, as its cursor says, and catches up. But it must never be ahead: a
batch is written only after its Kafka transaction has committed, in one WriteBatch with the cursor.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import rmtree
from struct import Struct
from typing import NamedTuple, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DbClosedError,
    MemtableFactory,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from config.errors import Refused, Stopped, WalletError
from config.logs import EventLog
from schemas.native.balances import decode_balance
from schemas.records import Balance
from streams.wallet import Known

log = EventLog("streams.store")

#: A store of format 1 is taken over: it has nothing set aside, but its entries may be ahead of its balances.
FORMAT, OLDER_FORMAT = 2, 1
BALANCE, POSTED, CURSOR, IDENTITY = b"b", b"i", b"m:cursor", b"m:identity"
#: What `ledger` and `balances` hold of wallets, until `streams.agreement` has compared it.
ENTRY, CHANGE = b"e", b"c"
_CURSOR, _OLDER_CURSOR = Struct(">qqqqq"), Struct(">qqqq")
_KNOWN = Struct(">32sq")
Found = list[bytes | None]
#: Records wait in a table of this size until they are sorted, where nothing is looked up meanwhile.
FILLING_BUFFER_BYTES = 64 * 1024 * 1024
#: No entry yet: earlier than every record's timestamp.
BEFORE_TIME = -(2**63)


class Cursor(NamedTuple):
    """What the store has seen: next offsets of the topics, one past the newest entry's source, its recorded_at (ms).

    `unseen`: entries of sources below this may be missing from those set aside.
    """

    ledger: int = 0
    balances: int = 0
    source: int = 0
    recorded_ms: int = BEFORE_TIME
    unseen: int = 0


@dataclass(frozen=True)
class Identity:
    """What a store belongs to; one of another pipeline, cluster, topic or format is refused."""

    cluster: str
    prefix: str
    ledger_topic_id: str
    partition: int
    format: int = FORMAT


class StoreAhead(Exception):  # noqa: N818 - a fact
    """The store holds an entry that Kafka had confirmed and rolled back later: see `streams.leftovers`."""


class StoreMemory:
    """One block cache and one write buffer for all stores of a worker, so that their number costs nothing."""

    def __init__(self, limit_mb: int) -> None:
        half = limit_mb * 1024 * 1024 // 2
        self.cache = Cache(half)
        self.write_buffers = WriteBufferManager(half, False)
        # What is full is written to disk by its own size. At the common bound RocksDB writes whichever table is in
        # hand, however little it holds, and then merges many small files. A small table is also faster to write to.
        # With more than six stores in use at once, that bound is the smaller one again.
        self._write_buffer = min(half // 6, FILLING_BUFFER_BYTES)

    def open(self, path: Path, *, filling: bool = False) -> Rdict:
        """Open a database with these options, a new one or one that is there already.

        They are given for the column family, too: for an existing database rocksdict would otherwise use the options
        that RocksDB saved, which have neither the filters nor the bounds of memory.

        `filling`: writes are appended and sorted later, in the background, which takes a tenth of the time;
        looking a key up would take long.
        """
        options = self.options()
        if filling:
            options.set_memtable_factory(MemtableFactory.vector())
            options.set_write_buffer_size(FILLING_BUFFER_BYTES)
            options.set_allow_concurrent_memtable_write(False)  # not with this kind of table
            options.set_memtable_whole_key_filtering(False)
            options.set_memtable_prefix_bloom_ratio(0.0)
        return Rdict(str(path), options, {"default": options})

    def options(self) -> Options:
        """RocksDB options: raw bytes, bloom filters (most ids looked up are new), bounded memory."""
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self.cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self.write_buffers)
        options.set_write_buffer_size(self._write_buffer)
        # So that a file's filter (1.25 bytes an id, 60 on disk) fits into a shard of the cache, which may have no more
        # than 512 KB. Otherwise it is read again for each look-up.
        options.set_target_file_size_base(16 * 1024 * 1024)
        # The newest ids are still in memory: a filter there saves the search for ids that are new.
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.1)
        options.set_max_open_files(512)
        options.set_keep_log_file_num(2)
        options.set_max_background_jobs(2)
        return options


class PartitionStore:
    """Balances and posted ids of one partition, with a bounded cache of balances in front.

    One thread at a time uses it: the one that has the partition's batch in hand. Any thread may ask for balances.
    """

    def __init__(self, path: Path, identity: Identity, memory: StoreMemory, cached_wallets: int) -> None:
        self.path = path
        self._identity = identity
        self._memory = memory
        self._cached_wallets = cached_wallets
        #: Bodies, which take half as much memory as what they hold.
        self._cache: dict[bytes, bytes] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._opened()
        #: The offset where the newest entry must be found again before anything is taken over; None: it was found.
        self.newest_entry: int | None = None
        #: Whether entries were deleted before they were read, and no later one has been read yet.
        self.missed = False
        try:
            self._load()
        except BaseException:
            # Whatever it was (a full disk, say): left open, it would make the next attempt to open it fail.
            self._db.close()
            raise

    def _load(self) -> None:
        try:
            self._identify()
            self.cursor = _cursor(self._db.get(CURSOR))
        except WalletError:
            raise
        except Exception as failure:  # noqa: BLE001 - from rocksdict, or because the store is damaged
            raise self._unreadable(failure) from None

    def _unreadable(self, failure: Exception) -> Refused:
        return Refused(
            f"the store {self.path} cannot be read ({failure}): repair the disk, or delete the store to have it "
            "rebuilt from Kafka"
        )

    def _opened(self, *, filling: bool = False) -> Rdict:
        try:
            return self._memory.open(self.path, filling=filling)
        except Exception as failure:  # noqa: BLE001 - rocksdict raises no other class
            raise Refused(
                f"the store {self.path} cannot be opened ({failure}): repair the disk, or delete the store to "
                "have it rebuilt from Kafka"
            ) from None

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Writes are much faster within this block, but look-ups are not allowed."""
        self.close()
        self._db = self._opened(filling=True)
        yield
        # Not after a failure: the caller then closes the store.
        self.close()
        self._db = self._opened()

    def clear(self) -> None:
        """Empty the store: its content will be read from Kafka again."""
        log.warning("store_cleared", path=self.path, seen=self.cursor.ledger)
        self.close()
        # Renamed first, so that a partly deleted folder is not mistaken for a store.
        gone = self.path.with_name(f"{self.path.name}.gone")
        rmtree(gone, ignore_errors=True)
        self.path.rename(gone)
        rmtree(gone, ignore_errors=True)
        self._db = self._opened()
        self._load()
        self.newest_entry = None
        self._cache.clear()

    def first_to_read(self, begin: int) -> int:
        """Where to read the ledger from, given its begin: the newest entry in the store is read once more."""
        newest = self.cursor.ledger - 1
        self.newest_entry = newest if newest >= begin else None
        self.missed = self.cursor.ledger < begin
        return max(newest, begin)

    def find_newest(self, entry: int) -> None:
        """Check the first entry that was read; raises StoreAhead if it is not the store's newest one."""
        if self.newest_entry is not None and entry != self.newest_entry:
            raise StoreAhead
        self.newest_entry = None

    def _identify(self) -> None:
        wanted, found = self._identity, self._db.get(IDENTITY)
        there = json.loads(found) if found is not None else {}
        if there.get("format") == OLDER_FORMAT:
            found, there = None, there | {"format": FORMAT}
        differences = [
            f"{name} {value!r} instead of {getattr(wanted, name, None)!r}"
            for name, value in there.items()
            if getattr(wanted, name, None) != value
        ]
        if differences:
            raise Refused(
                f"the store {self.path} has {', '.join(differences)}: name another WALLET_STATE_DIR, "
                f"or delete this store to have it rebuilt from Kafka"
            )
        if found is None:
            batch = WriteBatch(raw_mode=True)
            batch.put(IDENTITY, json.dumps(asdict(wanted)).encode())
            self._write(batch)

    @property
    def cached(self) -> int:
        """Balances in memory."""
        return len(self._cache)

    def balance(self, wallet: bytes) -> Balance | None:
        """The newest balance of a wallet, by the UTF-8 of its id."""
        return self.balances({wallet}).get(wallet)

    def balances(self, wallets: set[bytes]) -> dict[bytes, Balance]:
        """The newest balances of those of these wallets that have one."""
        cache = self._cache
        # Look each up only once: another thread may ask through the table while the writer's thread evicts.
        found = {wallet: body for wallet in wallets if (body := cache.get(wallet)) is not None}
        found |= self.bodies([wallet for wallet in wallets if wallet not in found])
        return {wallet: decode_balance(body) for wallet, body in found.items()}

    def bodies(self, wallets: list[bytes]) -> dict[bytes, bytes]:
        """The same as Avro bodies, as they are on disk."""
        return self._found(BALANCE, wallets)

    def known(self, ids: list[bytes]) -> dict[bytes, Known]:
        """What was posted under those of these ids that were posted."""
        return {one: Known(*_KNOWN.unpack(value)) for one, value in self._found(POSTED, ids).items()}

    def _found(self, prefix: bytes, keys: list[bytes]) -> dict[bytes, bytes]:
        try:
            values = cast("Found", self._db.get([prefix + one for one in keys]) if keys else [])
        except Exception as failure:  # noqa: BLE001 - rocksdict raises no other class
            raise self._unreadable(failure) from None
        return {one: value for one, value in zip(keys, values, strict=True) if value is not None}

    def write(self, changelog: dict[bytes, bytes], ids: dict[bytes, Known], cursor: Cursor) -> None:
        """Take over a committed batch with the cursor: all of it or nothing.

        `changelog` holds balances as Avro bodies. Raises Stopped when the disk refuses it, which loses nothing: Kafka
        has everything.
        """
        batch = WriteBatch(raw_mode=True)
        _put(batch, BALANCE, changelog)
        self._take_over(batch, ids, cursor)
        self._remember(changelog)

    def set_aside(
        self,
        entries: dict[bytes, bytes],
        changes: dict[bytes, bytes],
        ids: dict[bytes, Known],
        cursor: Cursor,
    ) -> None:
        """Take over a stretch of the topics with the cursor, as `write` does; balances count once confirmed.

        Both are bodies of Balance: from the newest entries, and from `balances` (b"" for null).
        """
        batch = WriteBatch(raw_mode=True)
        _put(batch, ENTRY, entries)
        _put(batch, CHANGE, changes)
        self._take_over(batch, ids, cursor)

    def aside_of(self, prefix: bytes, wallets: list[bytes]) -> dict[bytes, bytes]:
        """What was set aside of these wallets under ENTRY or CHANGE."""
        return self._found(prefix, wallets)

    def aside(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """What was set aside of wallets under ENTRY or CHANGE, in the order of their names."""
        for key, value in cast("Iterator[tuple[bytes, bytes]]", self._db.items(from_key=prefix)):
            if key[:1] != prefix:
                return
            yield key[1:], value

    def confirm(self, first: bytes, last: bytes, changelog: dict[bytes, bytes], cursor: Cursor) -> None:
        """Replace everything set aside in a range of wallets with these balances, as `write` does."""
        batch = WriteBatch(raw_mode=True)
        _put(batch, BALANCE, changelog)
        for prefix in (ENTRY, CHANGE):
            batch.delete_range(prefix + first, prefix + last + b"\0")
        self._take_over(batch, {}, cursor)
        for wallet in changelog:
            self._cache.pop(wallet, None)

    def confirm_each(self, changelog: dict[bytes, bytes]) -> None:
        """Replace what was set aside of just these wallets with these balances, as `write` does."""
        batch = WriteBatch(raw_mode=True)
        _put(batch, BALANCE, changelog)
        for wallet in changelog:
            batch.delete(ENTRY + wallet)
            batch.delete(CHANGE + wallet)
            self._cache.pop(wallet, None)
        self._take_over(batch, {}, self.cursor)

    def _take_over(self, batch: WriteBatch, ids: dict[bytes, Known], cursor: Cursor) -> None:
        put, pack = batch.put, _KNOWN.pack
        for one in sorted(ids):  # in order, each is put beside the one before, without a search
            put(POSTED + one, pack(*ids[one]))
        put(CURSOR, _CURSOR.pack(*cursor))
        self._write(batch)
        self.cursor = cursor

    def _write(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch)
        except Exception as failure:
            raise Stopped(
                f"the store {self.path} cannot be written ({failure}); nothing is lost, Kafka has everything: "
                "make room or repair the disk, and start again"
            ) from failure

    def _remember(self, changelog: dict[bytes, bytes]) -> None:
        self._cache.update(changelog)
        if len(self._cache) > self._cached_wallets:
            # Oldest first: dicts keep the order in which wallets were first touched.
            for wallet in list(self._cache)[: len(self._cache) - self._cached_wallets // 2]:
                del self._cache[wallet]

    def close(self) -> None:
        """Write what is in memory and let go of the folder."""
        try:
            self._db.flush()
        except DbClosedError:
            return  # it was closed to be opened again, which failed
        except Exception as failure:  # noqa: BLE001 - rocksdict raises no other class
            # A full disk, say. What is not flushed is in RocksDB's log, or will be read from Kafka again.
            log.warning("store_not_flushed", path=self.path, reason=failure)
        # A database that cannot be flushed once more says so again, but lets go of the folder.
        with suppress(Exception):
            self._db.close()


def _cursor(saved: bytes | None) -> Cursor:
    if saved is None:
        return Cursor()
    if len(saved) == _OLDER_CURSOR.size:
        older = Cursor(*_OLDER_CURSOR.unpack(saved))
        return older._replace(unseen=older.source)
    return Cursor(*_CURSOR.unpack(saved))


def _put(batch: WriteBatch, prefix: bytes, values: dict[bytes, bytes]) -> None:
    put = batch.put
    for key in sorted(values):
        put(prefix + key, values[key])
