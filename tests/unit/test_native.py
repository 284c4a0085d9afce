"""The compiled part against the Python that it stands for, and everything without it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import native as optional
from schemas.codec import encode_entry, encode_transaction, frame
from schemas.digest import new_sha256
from schemas.native.balances import decode_balance_in_python, encode_balances_in_python
from schemas.native.varints import longs_in_python
from schemas.records import Balance, Order, Transaction
from sinks.rows import EntryRow
from tests.effort import examples, in_full
from tests.ledgers import LEDGER_FRAME
from tests.unit.test_sink_rows import TRANSACTION, compiled_row, entry_row, recorded
from tests.unit.transactions import UUID, balances, longs

#: None where nothing is compiled, and then most of this is skipped.
native: Any = optional
HEADER = frame(1)
FULL = Transaction(
    UUID, "wallet-1", 1, 1_999, "EUR", 1_790_000_000_000_000, "group 7", (("a", "v"), ("b", "w"))
)
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]
HEADERS_THERE = (Path(sysconfig.get_path("include")) / "Python.h").exists()

WITHOUT_IT = """
import sys, pytest
sys.modules["schemas.native._native"] = None
from schemas import native
assert native.usual is None
sys.exit(pytest.main(sys.argv[1:]))
"""

#: Loads the extension that is named first, in place of ours.
WITH_THIS_ONE = """
import importlib.util, sys, pytest
spec = importlib.util.spec_from_file_location("schemas.native._native", sys.argv[1])
sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from schemas import native
assert native.post is module.post
sys.exit(pytest.main(sys.argv[2:]))
"""
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

compiled = pytest.mark.skipif(native.longs is None, reason="not compiled here")


@pytest.mark.skipif(not (shutil.which(COMPILER) and HEADERS_THERE), reason="nothing here that compiles")
def test_it_is_compiled_where_it_can_be() -> None:
    assert native.usual is not None, "make clean setup: the compiler came after it"
    names = ("orders", "post", "longs", "balance", "balance_bodies", "entry_rows")
    assert [name for name in names if getattr(native, name) is None] == []


@compiled
@settings(max_examples=examples(250))
@given(st.binary(max_size=20), st.lists(longs, max_size=8))
def test_numbers_are_written_alike(first: bytes, numbers: list[int]) -> None:
    assert native.longs(first, *numbers) == longs_in_python(first, *numbers)


@compiled
@settings(max_examples=examples(250))
@given(st.dictionaries(st.binary(max_size=9), balances, max_size=4))
def test_balances_are_written_and_read_alike(written: dict[bytes, Balance]) -> None:
    bodies = native.balance_bodies(written)
    assert bodies == encode_balances_in_python(written)
    for wallet, body in bodies.items():
        found = native.balance(body, Balance)
        assert type(found) is Balance
        assert found == written[wallet] == decode_balance_in_python(body)


@compiled
@settings(max_examples=examples(250))
@given(balances, st.data())
def test_bytes_that_are_no_balance_are_left_to_python(balance: Balance, data: st.DataObject) -> None:
    body = bytearray(encode_balances_in_python({b"": balance})[b""])
    place = data.draw(st.integers(0, len(body)))
    body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    found = native.balance(bytes(body), Balance)
    if found is not None:
        assert found == decode_balance_in_python(bytes(body))
        assert encode_balances_in_python({b"": found})[b""] == body


@compiled
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        b"\x02\xff\x00" + b"\0" * 5 + b"h" * 32,
        b"\x82\0" + b"\0" * 6 + b"h" * 32,
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"\0" * 6 + b"h" * 32,
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"\0" * 6 + b"h" * 32,
        b"\0\0" + b"\0" * 4 + b"\x80" * 9 + b"\x02" + b"h" * 32,
        b"\0\0" + b"\0" * 5 + b"h" * 31,
        b"\0\0" + b"\0" * 5 + b"h" * 33,
    ],
)
def test_a_balance_that_nobody_wrote_is_left_to_python(body: bytes) -> None:
    assert native.balance(body, Balance) is None


@compiled
def test_every_beginning_of_a_transaction_and_every_byte_more_is_unusual() -> None:
    def usual(value: bytes) -> object:
        return native.usual(HEADER, value, Order, new_sha256)

    value = HEADER + encode_transaction(FULL)
    assert usual(value) is not None
    assert [usual(value[:end]) for end in range(len(value))] == [None] * len(value)
    assert [usual(value + bytes([more])) for more in range(256)] == [None] * 256


@compiled
def test_what_it_is_not_made_for_is_an_error() -> None:
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
            native.usual(*wrong)
    for wrong in ((), ("text", 1), (b"", "1"), (b"", 1.0), (b"", *range(9))):
        with pytest.raises(TypeError):
            native.longs(*wrong)
    for wide in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError):
            native.longs(b"", wide)


@compiled
def test_what_is_no_balance_is_an_error() -> None:
    for wrong in ((), (b"",), ("", Balance), (b"", dict), (b"", Balance, 1)):
        with pytest.raises(TypeError):
            native.balance(*wrong)
    right: Any = Balance("w", "EUR", 1, 1, 1, 1, 1, bytes(32))
    for no_balance in (
        None,
        (),
        tuple(right)[1:],
        right._replace(wallet_id=b"w"),
        right._replace(currency=None),
        right._replace(balance="1"),
        right._replace(source_offset=None),
        right._replace(hash="h"),
    ):
        with pytest.raises(TypeError):
            native.balance_bodies({b"w": no_balance})
    with pytest.raises(TypeError):
        native.balance_bodies([])
    with pytest.raises(OverflowError):
        native.balance_bodies({b"w": right._replace(balance=2**63)})
    with pytest.raises(UnicodeEncodeError):
        native.balance_bodies({b"w": right._replace(wallet_id="\ud800")})


names = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=63)
plain = st.text(st.sampled_from("aZ09 -_/{}:,'~"), min_size=1, max_size=9)


@compiled
@settings(max_examples=examples(250))
@given(
    names,
    st.none() | names,
    st.lists(st.tuples(plain, plain), max_size=4),
    st.integers(0, 1),
    recorded,
    st.tuples(st.just(1) | longs, longs, recorded, st.integers(0, 2**31 - 1), longs),
)
def test_a_usual_entry_is_made_into_rows_by_the_compiled_loop(
    wallet_id: str,
    group_id: str | None,
    metadata: list[tuple[str, str]],
    kind: int,
    occurred_ms: int,
    place: tuple[int, int, int, int, int],
) -> None:
    transaction = TRANSACTION._replace(
        wallet_id=wallet_id,
        group_id=group_id,
        metadata=tuple(metadata),
        type=kind,
        occurred_us=occurred_ms * 1_000,
    )
    body = encode_entry(encode_transaction(transaction), *place) + bytes(range(32))
    assert compiled_row(body) == entry_row(body)


@compiled
def test_what_no_row_can_be_made_of_is_an_error() -> None:
    assert native.entry_rows([None, "text", b"", LEDGER_FRAME], EntryRow) == [None] * 4
    wrongs: list[tuple[object, ...]] = [(), ([],), ((), EntryRow), ([], dict), ([], EntryRow, 1)]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            native.entry_rows(*wrong)


@compiled
@pytest.mark.full
def test_it_touches_no_memory_that_is_not_its_own(tmp_path: Path) -> None:
    """Built with the compiler's sanitizers, under Python with plain malloc, where each object has edges of its own."""
    library = subprocess.run(
        [COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    )
    if not Path(library.stdout.strip()).is_absolute():
        pytest.skip(f"{COMPILER} has no sanitizers: apt-get install gcc libasan8")
    built, source = tmp_path / "_native.so", Path(str(optional.__file__)).with_name("_native.c")
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run(
        [COMPILER, "-g", "-O1", "-fPIC", "-shared", *SANITIZERS, include, source, "-o", built], check=True
    )
    names = "native", "native_posting", "posting", "posting_properties", "sink_rows"
    tests = [Path(__file__).with_name(f"test_{name}.py") for name in names]
    sanitized = {
        "LD_PRELOAD": library.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
    }
    pass_under(WITH_THIS_ONE, built, "-m", "not full", *tests, timeout_s=900, env=sanitized)


def pass_under(
    program: str,
    *arguments: str | Path,
    timeout_s: float = 200,
    env: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run tests in a Python that `program` sets up first."""
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments, "-q", "-p", "no:xdist", "-p", "no:cacheprovider"],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3_000:]
    assert " passed" in ran.stdout


@pytest.mark.parametrize(
    "name",
    [
        "test_codec.py",
        "test_posting.py",
        "test_sink_rows.py",
        in_full("test_posting_properties.py"),
    ],
)
def test_everything_is_the_same_without_it(name: str) -> None:
    pass_under(WITHOUT_IT, Path(__file__).with_name(name))
