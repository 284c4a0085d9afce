"""An end that is bounded: whatever hangs while a process lets go of its clients, it ends in time.

Clients of Kafka and PostgreSQL wait for their servers when they are closed, some of them without a limit, and Python
waits for its threads. What was not finished then is as after a crash: rolled back, and done again by whoever goes on.
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

#: From the order to stop, or the failure, to the end of the process. Supervisors are told to grant 60 s.
END_S = 30.0


def ended_by(signals: Sequence[int]) -> int:
    """The exit code of a process that was told to end: an order is followed, Ctrl-C interrupts."""
    return 130 if signal.SIGINT in signals else 0


def end_within(bound_s: float, failure: Callable[[], WalletError | None], code: int = 0) -> None:
    """Have the process end after so long if it has not by then: with the failure's line and exit code, else `code`."""
    timer = threading.Timer(bound_s, _end, (bound_s, failure, code))
    timer.daemon = True
    timer.start()


def _end(bound_s: float, failure: Callable[[], WalletError | None], code: int) -> None:
    log.warning(
        "end_hangs", after_s=bound_s, consequence="the process ends as after a crash, and nothing is lost"
    )
    end_now(failure(), code)


def end_now(failure: WalletError | None, code: int = 0) -> NoReturn:
    """End past whatever hangs."""
    if failure is not None:
        sys.stderr.write(f"wallet: {failure}\n")
    sys.stderr.flush()
    os._exit(failure.exit_code if failure is not None else code)
