"""Bytes of every kind through the decoder and the whole fold, guided by what of the code they reach.

Not run by pytest, and atheris, which has wheels for few platforms, is no dependency. In a virtual environment
to throw away, outside of the checkout:

    python3.11 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris -r requirements-dev.txt
    mkdir -p /tmp/fuzz/corpus
    /tmp/fuzz/bin/python -m tests.fuzz.fuzz_transactions -max_total_time=600 -max_len=2048 /tmp/fuzz/corpus

It ends with a traceback and a file `crash-…` where the decoder and the audit's reader
disagree, the fast path and the strict one, or the fold and the independent one; or where anything is raised.
`… -m tests.fuzz.fuzz_transactions crash-…` plays that file again.
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # only in the environment that is described above

# Only what is under test is watched: the readers that it is held against need not be explored.
with atheris.instrument_imports(include=["schemas", "streams", "topics"]):
    from config.pipeline import Pipeline
    from schemas.codec import encode_transaction
    from schemas.records import Transaction
    from tests.unit.agreement import assert_the_independent_fold_agrees, folded
    from tests.unit.strategies import DAY_MS, HERE, IDS, MAX_RECORD_BYTES, PARTITIONS, START_MS
    from tests.unit.test_codec_properties import HEADER, assert_all_ways_agree, outcome, read_plainly
    from topics.source import Source

#: The first byte of an input says what it is for.
DECODE, FOLD = b"\0", b"\1"


def decode(body: bytes) -> None:
    """The decoder against the audit's reader, and its fast paths against the strict one."""
    assert outcome(body) == read_plainly(body)
    assert_all_ways_agree(HEADER + body)


def fold(data: bytes) -> None:
    """A partition's records, in two batches, through the fold and the independent one."""
    given = atheris.FuzzedDataProvider(data)
    pipeline = Pipeline(
        format=1,
        partitions=PARTITIONS,
        snapshot_every=given.ConsumeIntInRange(1, 4),
        overdraft="allow" if given.ConsumeBool() else "reject",
        max_record_bytes=MAX_RECORD_BYTES,
        id_window_days=given.ConsumeIntInRange(0, 2) or None,
        transaction_schema_id=1,
    )
    records: list[Source] = []
    offset, now_ms = given.ConsumeIntInRange(0, 5), START_MS
    while given.remaining_bytes() and len(records) < 16:
        records.append(_record(given, offset, now_ms))
        offset += given.ConsumeIntInRange(1, 3)
        now_ms += given.PickValueInList([0, 0, 1, 5_000, -3_000, DAY_MS, 2 * DAY_MS + 1, -DAY_MS])
    half = len(records) // 2
    written = folded(pipeline, [records[:half], records[half:]])
    assert written.named == [record.offset for record in records]
    assert_the_independent_fold_agrees(pipeline, records, written)


def _record(given: atheris.FuzzedDataProvider, offset: int, now_ms: int) -> Source:
    """A good record, a damaged one, or any bytes."""
    wallet = given.PickValueInList(HERE)
    body = encode_transaction(
        Transaction(
            given.PickValueInList(IDS),
            wallet,
            given.ConsumeIntInRange(0, 1),
            given.PickValueInList([1, 2, 1_000, 2**62, 2**63 - 1]),
            given.PickValueInList(["EUR", "EUR", "EUR", "USD"]),
            1_800_000_000_000_000,
            given.PickValueInList([None, "transfer"]),
            given.PickValueInList([(), (("a", "1"), ("b", "2")), (("b", "2"), ("a", "1"))]),
        )
    )
    key: bytes | None = wallet.encode()
    value: bytes | None = HEADER + body
    headers: tuple[tuple[str, bytes | None], ...] = ()
    match given.ConsumeIntInRange(0, 7):
        case 0:
            at = given.ConsumeIntInRange(0, len(body))
            value = HEADER + body[:at] + given.ConsumeBytes(3) + body[at + given.ConsumeIntInRange(0, 3) :]
        case 1:
            value = HEADER + given.ConsumeBytes(120)
        case 2:
            value = given.ConsumeBytes(40) or None
        case 3:
            key = given.ConsumeBytes(10) or None
        case 4:
            name = given.ConsumeUnicodeNoSurrogates(8)
            headers = (
                (name, given.ConsumeBytes(8) or None),
                ("large", bytes(given.ConsumeIntInRange(0, 1_000))),
            )
    return Source(offset, now_ms, key, value, headers)


def test_one_input(data: bytes) -> None:
    """What atheris calls."""
    if data[:1] == FOLD:
        fold(data[1:])
    else:
        decode(data[1:])


def sow(folder: Path) -> None:
    """Give an empty corpus something to begin with: mutation finds neither UUIDs nor lengths by itself."""
    if not folder.is_dir() or any(folder.iterdir()):
        return
    wide = Transaction(IDS[0], "w" * 128, 1, 2**63 - 1, "USD", -(2**40), "ä" * 20, (("k", "v"), ("", "財布")))
    for number, one in enumerate(
        [wide, wide._replace(wallet_id=HERE[0], group_id=None, metadata=(), amount=1)]
    ):
        (folder / f"sown-{number}").write_bytes(DECODE + encode_transaction(one))
    for size in (1, 20, 80, 400):
        (folder / f"sown-fold-{size}").write_bytes(FOLD + bytes(range(1, 250)) * 2 + bytes(size))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if not argument.startswith("-"):
            sow(Path(argument))
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
