"""What of the fold is compiled (`_native.c`); None where it is not. Then everything works all the same, slower."""

from collections.abc import Callable
from contextlib import suppress

#: What decides about a transaction, but for its digest: the first six fields of an Order.
Deciding = tuple[bytes, bytes, int, int, str, bytes]

usual: Callable[[bytes, bytes], Deciding | None] | None = None
longs: Callable[..., bytes] | None = None

with suppress(ImportError):
    from schemas import _native

    usual, longs = _native.usual, _native.longs
