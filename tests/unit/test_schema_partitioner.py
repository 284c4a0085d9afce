"""Keys go where Java's producers and librdkafka's murmur2_random put them."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import cimpl
from hypothesis import given
from hypothesis import strategies as st

from schemas.partitioner import murmur2, partition_of

# From Kafka's own UtilsTest.testMurmur2, where they are signed.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA.items())
def test_murmur2_is_that_of_java(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


def vectors() -> Iterator[list[str]]:
    """The rows of the page for producers."""
    page = Path(__file__).parents[2] / "docs" / "topics-upstream.md"
    row = r"^\| `(.+)` \| `([0-9a-f]+)` \| `([0-9a-f]{8})` \| (\d+) \| (\d+) \|$"
    for found in re.findall(row, page.read_text("utf-8"), re.MULTILINE):
        yield [*found]


def test_the_test_vectors_of_the_page_are_what_the_code_says() -> None:
    rows = [*vectors()]
    assert len(rows) == 6
    assert {len(wallet) for wallet, *_ in rows if wallet.startswith("Zo")} == {3, 4}  # one of each kind
    for wallet, key, hashed, of_4, of_12 in rows:
        assert wallet.encode().hex() == key
        assert f"{murmur2(wallet.encode()):08x}" == hashed
        assert (partition_of(wallet.encode(), 4), partition_of(wallet.encode(), 12)) == (
            int(of_4),
            int(of_12),
        )


def librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka brings along; importing it has loaded it already."""
    bundled = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    return ctypes.CDLL(str(next(bundled.glob("librdkafka*"), cimpl.__file__)))


@given(st.binary(max_size=80), st.integers(1, 10_000))
def test_partitions_are_those_of_librdkafka(key: bytes, partitions: int) -> None:
    place = librdkafka().rd_kafka_msg_partitioner_murmur2
    place.restype = ctypes.c_int32
    assert partition_of(key, partitions) == place(
        None, key, ctypes.c_size_t(len(key)), partitions, None, None
    )
