from collections.abc import Callable
from typing import Any

VERSION: int

def usual(header: bytes, value: bytes, order: type, new_sha256: Callable[[], object], /) -> Any: ...
def orders(
    header: bytes, records: list[Any], most_bytes: int, order: type, new_sha256: Callable[[], object], /
) -> tuple[list[Any], list[bytes | None]]: ...
def post(
    plan: tuple[Any, ...],
    records: list[Any],
    orders: list[Any],
    ids: list[bytes | None],
    at: int,
    known: dict[bytes, Any],
    balances: dict[bytes, Any],
    entries: list[Any],
    new_balances: dict[bytes, Any],
    new_ids: dict[bytes, Any],
    recorded_ms: int,
    /,
) -> tuple[int, int]: ...
def longs(first: bytes, /, *numbers: int) -> bytes: ...
def balance(body: bytes, balance: type, /) -> Any: ...
def balance_bodies(balances: dict[bytes, Any], /) -> dict[bytes, bytes]: ...
def entry_rows(values: list[bytes | None], row: type, /) -> list[Any]: ...
