"""The id index at a size that no short run reaches: what writing, finding and not finding an id costs."""

import random
from collections.abc import Iterator
from itertools import islice

from benchmarks.measurement import Measurement, of_this_process
from benchmarks.place import Place
from streams.batch import posted_id
from streams.store import Cursor, Identity, PartitionStore, StoreMemory
from streams.wallet import Known

BATCH_IDS = 8_000
LOOKED_UP = 200_000
#: As many as the fold looks up at once.
STRETCH_IDS = 500
WALLETS = 10_000


def measure(place: Place, ids: int) -> Iterator[Measurement]:
    """Fill one store with so many ids, then look known and unknown ones up, all in this process."""
    path = place.folder / "id-index"
    store = PartitionStore(path, Identity("benchmark", "ids", "", 0), StoreMemory(96), 0)
    try:
        yield of_this_process("id index, write", lambda: _fill(store, ids))
    finally:
        store.close()
    size = sum(file.stat().st_size for file in path.iterdir())
    store = PartitionStore(path, Identity("benchmark", "ids", "", 0), StoreMemory(96), 0)
    try:
        note = f"{size / 2**20:,.0f} MiB on disk, {size / ids:.0f} bytes an id"
        unknown, known = _stretches(_ids(2)), _stretches(_known_ids(ids))
        yield of_this_process("id index, look an unknown id up", lambda: _ask(store, unknown), note)
        yield of_this_process("id index, look a known id up", lambda: _ask(store, known))
    finally:
        store.close()


def _ids(seed: int) -> Iterator[bytes]:
    """Endless keys of the index, the same for the same seed."""
    source = random.Random(seed)
    while True:
        yield posted_id(b"wallet-%d" % source.randrange(WALLETS), source.randbytes(16))


def _known_ids(ids: int) -> Iterator[bytes]:
    """Every so many of those that were written."""
    step = max(1, ids // LOOKED_UP)
    return (one for number, one in enumerate(_ids(1)) if number % step == 0)


def _stretches(ids: Iterator[bytes]) -> list[list[bytes]]:
    return [list(islice(ids, STRETCH_IDS)) for _ in range(0, LOOKED_UP, STRETCH_IDS)]


def _fill(store: PartitionStore, ids: int) -> int:
    """The time includes making the ids and their digests, which are random and so do not compress."""
    made, digests = _ids(1), random.Random(3)
    for _ in range(0, ids, BATCH_IDS):
        batch = {one: Known(digests.randbytes(32), 0) for one in islice(made, BATCH_IDS)}
        store.write({}, batch, Cursor())
    return ids


def _ask(store: PartitionStore, stretches: list[list[bytes]]) -> int:
    for stretch in stretches:
        store.known(stretch)
    return LOOKED_UP
