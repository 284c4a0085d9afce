"""A bounded shutdown: whatever hangs while a process closes its clients, it ends in time.

Closing clients of Kafka and PostgreSQL waits for the servers, sometimes without a limit, and Python waits for its
threads. Unfinished work is then as after a crash: rolled back, and repeated by the next process.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from config.errors import WalletError
from config.logs import EventLog

log = EventLog("vitals.ending")

#: Seconds from the order to stop, or the failure, to the end of the process. Supervisors should allow 60 s.
END_S = 30.0


def on_order(stop: Callable[[int], object]) -> list[int]:
    """From now on call this with each SIGTERM and Ctrl-C; the list keeps them, for `ended_by`."""
    signals: list[int] = []

    def told_to_stop(number: int, _: object) -> None:
        signals.append(number)
        stop(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told_to_stop)
    return signals


def ended_by(signals: Sequence[int]) -> int:
    """The exit code of a process that was signalled: 0 for SIGTERM, 130 for Ctrl-C."""
    return 130 if signal.SIGINT in signals else 0


def end_within(bound_s: float, failure: Callable[[], WalletError | None], code: int = 0) -> None:
    """End the process after `bound_s` if it still runs: with the failure's line and exit code, or with `code`."""
    timer = threading.Timer(bound_s, _end, (bound_s, failure, code))
    timer.daemon = True
    timer.start()


def _end(bound_s: float, failure: Callable[[], WalletError | None], code: int) -> None:
    log.warning("end_hangs", after_s=bound_s, consequence="the process ends as in a crash; nothing is lost")
    end_now(failure(), code)


def end_now(failure: WalletError | None, code: int = 0) -> NoReturn:
    """End the process without waiting for anything."""
    if failure is not None:
        sys.stderr.write(f"wallet: {failure}\n")
    sys.stderr.flush()
    os._exit(failure.exit_code if failure is not None else code)
