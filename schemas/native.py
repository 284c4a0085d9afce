"""The compiled parts of the fold (`_native.c`); None if they are not compiled, which is only slower.

A build from another version's source is not used: `make setup` compiles it again.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

VERSION = 1

usual: Callable[..., Any] | None = None
orders: Callable[..., Any] | None = None
post: Callable[..., Any] | None = None
longs: Callable[..., bytes] | None = None

with suppress(ImportError):
    from schemas import _native

    if getattr(_native, "VERSION", None) == VERSION:
        usual, orders, post, longs = _native.usual, _native.orders, _native.post, _native.longs
