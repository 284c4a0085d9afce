"""The compiled part of the fold against the Python that it stands for, and everything without it."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import native
from schemas.avro import longs_in_python
from schemas.codec import encode_transaction, frame
from schemas.digest import new_sha256
from schemas.records import Order, Transaction
from tests.effort import examples
from tests.unit.transactions import UUID

HEADER = frame(1)
FULL = Transaction(
    UUID, "wallet-1", 1, 1_999, "EUR", 1_790_000_000_000_000, "group 7", (("a", "v"), ("b", "w"))
)
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]
HEADERS_THERE = (Path(sysconfig.get_path("include")) / "Python.h").exists()

WITHOUT_IT = """
import sys, pytest
sys.modules["schemas._native"] = None
from schemas import native
assert native.usual is None
sys.exit(pytest.main(sys.argv[1:]))
"""

compiled = pytest.mark.skipif(native.longs is None, reason="not compiled here")


@pytest.mark.skipif(not (shutil.which(COMPILER) and HEADERS_THERE), reason="nothing here that compiles")
def test_it_is_compiled_where_it_can_be() -> None:
    assert native.usual is not None, "make clean setup: the compiler came after it"
    assert native.orders is not None
    assert native.post is not None
    assert native.longs is not None


@compiled
@settings(max_examples=examples(250), deadline=None)
@given(st.binary(max_size=20), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8))
def test_numbers_are_written_alike(first: bytes, numbers: list[int]) -> None:
    assert native.longs is not None
    assert native.longs(first, *numbers) == longs_in_python(first, *numbers)


@compiled
def test_every_beginning_of_a_transaction_and_every_byte_more_is_unusual() -> None:
    def usual(value: bytes) -> object:
        assert native.usual is not None
        return native.usual(HEADER, value, Order, new_sha256)

    value = HEADER + encode_transaction(FULL)
    assert usual(value) is not None
    assert [usual(value[:end]) for end in range(len(value))] == [None] * len(value)
    assert [usual(value + bytes([more])) for more in range(256)] == [None] * 256


@compiled
def test_what_it_is_not_made_for_is_an_error() -> None:
    usual: object = native.usual
    longs: object = native.longs
    assert callable(usual)
    assert callable(longs)
    for wrong in (
        (),
        (HEADER, b"", Order),
        (HEADER, "text", Order, new_sha256),
        (HEADER, None, Order, new_sha256),
        (HEADER, bytearray(9), Order, new_sha256),
        (HEADER, b"", dict, new_sha256),
        (HEADER, b"", b"", new_sha256),
    ):
        with pytest.raises(TypeError):
            usual(*wrong)
    for wrong in ((), ("text", 1), (b"", "1"), (b"", 1.0), (b"", *range(9))):
        with pytest.raises(TypeError):
            longs(*wrong)
    for wide in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            longs(b"", wide)


@pytest.mark.parametrize(
    "name",
    ["test_codec.py", "test_posting.py", pytest.param("test_posting_properties.py", marks=pytest.mark.full)],
)
def test_everything_is_the_same_without_it(name: str) -> None:
    path = str(Path(__file__).with_name(name))
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_IT, "-q", "-p", "no:xdist", "-p", "no:cacheprovider", path],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3_000:]
    assert " passed" in ran.stdout
