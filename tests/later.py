"""Tests under a clock that is months ahead: `python -m tests.later MONTHS [what pytest takes]`, or `make test-later`.

The time of day of pytest and of all that it starts is another one: of commands, of Kafka, of PostgreSQL. Waits are as
long as ever.
"""

import os
import sys
from pathlib import Path

from config.settings import Settings
from local.jars import kafka_jars
from tests.clock import FOLDER, Clock, library

#: A month has at most so many days: the one that is so much later is always another one.
DAYS, DAY_S = 31, 86_400
#: Says to the tests that they need servers of their own.
VARIABLE = "TEST_MONTHS_LATER"


def main(months: int, words: list[str]) -> None:
    """Become pytest, so many months later."""
    preloaded = library()
    if preloaded is None:
        sys.exit("another clock needs Linux and a C compiler: install gcc")
    # Before the clock moves: certificates are valid for a time.
    kafka_jars(Settings().local_cache.expanduser(), print)
    later = Clock(preloaded, FOLDER / f"clock-{months}-months-later")
    later.jump(months * DAYS * DAY_S)
    pytest = str(Path(sys.executable).with_name("pytest"))
    os.execve(pytest, [pytest, *words], {**os.environ, **later.environment, VARIABLE: str(months)})  # noqa: S606 - what this is for


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
