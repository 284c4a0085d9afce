"""Wait, with progress, for work that another process does, as long as it makes progress."""

import time
from collections.abc import Callable

from config.errors import WalletError
from operations.cli.output import progress

LOOK_EVERY_S = 0.3


def until_done(
    title: str, total: int, look: Callable[[], int], *, stall_s: float, stalled: Callable[[int], WalletError]
) -> None:
    """Return once `look` says that `total` items are done.

    Raises `stalled(done)` if the number has not changed for `stall_s` seconds.
    """
    done, moved_at = -1, time.monotonic()
    with progress(title, total) as advance:
        while (now := look()) < total:
            advance(now)
            if now != done:
                done, moved_at = now, time.monotonic()
            elif time.monotonic() - moved_at > stall_s:
                raise stalled(now)
            time.sleep(LOOK_EVERY_S)
        advance(total)
