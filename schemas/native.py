"""What of the fold is compiled (`_native.c`); None where it is not. Then everything works all the same, slower."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

usual: Callable[..., Any] | None = None
orders: Callable[..., Any] | None = None
post: Callable[..., Any] | None = None
longs: Callable[..., bytes] | None = None

with suppress(ImportError):
    from schemas import _native

    usual, orders, post, longs = _native.usual, _native.orders, _native.post, _native.longs
