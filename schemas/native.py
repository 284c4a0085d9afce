"""What of the fold is compiled (`_native.c`); None where it is not. Then everything works all the same, slower.

One that was compiled from another version's source is left alone: `make setup` compiles it anew.
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
