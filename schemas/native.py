"""The compiled parts of the fold (`_native.c`); None if they are not compiled, which is only slower.

A build from another version's source is not used: `make setup` compiles it again.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

VERSION = 2

usual: Callable[..., Any] | None = None
orders: Callable[..., Any] | None = None
post: Callable[..., Any] | None = None
longs: Callable[..., bytes] | None = None
balance: Callable[..., Any] | None = None
balance_bodies: Callable[..., dict[bytes, bytes]] | None = None

with suppress(ImportError):
    from schemas import _native

    if getattr(_native, "VERSION", None) == VERSION:
        usual, orders, post, longs = _native.usual, _native.orders, _native.post, _native.longs
        balance, balance_bodies = _native.balance, _native.balance_bodies
