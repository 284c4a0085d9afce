"""The compiled parts of worker and sink (`_native.c`); None if they are not compiled, which is only slower.

Each has a Python twin, which answers the same. Next to this: `longs` in `varints`, `balance` and `balance_bodies` in
`balances`. `usual` and `orders` stand for `schemas.codec`, `post` for `streams.posting` with the rules in
`streams.wallet`, `entry_rows` for `sinks.rows`.
No module here is called like a function: its import would put it in the function's place.
A build from another version's source is not used: `make setup` compiles it again.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

VERSION = 3

usual: Callable[..., Any] | None = None
orders: Callable[..., Any] | None = None
post: Callable[..., Any] | None = None
longs: Callable[..., bytes] | None = None
balance: Callable[..., Any] | None = None
balance_bodies: Callable[..., dict[bytes, bytes]] | None = None
entry_rows: Callable[..., list[Any]] | None = None

with suppress(ImportError):
    from schemas.native import _native

    if getattr(_native, "VERSION", None) == VERSION:
        usual, orders, post, longs = _native.usual, _native.orders, _native.post, _native.longs
        balance, balance_bodies = _native.balance, _native.balance_bodies
        entry_rows = _native.entry_rows
