"""Loaded by Python before anything else in a program that lives by libfaketime's clock.

Under libfaketime 0.9.10 with a true monotonic clock, clock_nanosleep(2) as Python calls it fails with EINVAL.
select(2) sleeps as well.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: SupportsIndex | float, /) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep
