"""`make torture`: one run by hand. Exit code 1 unless it is clean."""

import argparse
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from tests.faults.schedule import kinds, schedule
from tests.faults.torture import run

FOLDER = Path(".local/torture")


def main() -> int:
    """Print the schedule, play it, print the report."""
    arguments = _arguments()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    seconds = arguments.minutes * 60
    faults = schedule(seed, seconds, arguments.brokers, arguments.only)
    again = f"make torture SEED={seed} MINUTES={arguments.minutes:g} BROKERS={arguments.brokers}"
    _say(f"{again}{' ONLY=' + ','.join(arguments.only) if arguments.only else ''}")
    for fault in faults:
        _say(str(fault))
    folder = (FOLDER / f"{seed}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    _say(f"logs in {folder}")
    signal.signal(signal.SIGTERM, _interrupt)
    report = run(faults, seconds, folder, seed=seed, brokers=arguments.brokers, rate=arguments.rate, say=_say)
    _say(str(report))
    if report.clean:
        for part in ("servers", "state"):  # the logs stay
            shutil.rmtree(folder / part)
    return 0 if report.clean else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--seed", type=int, help="the same seed plays the same schedule; default: any")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--rate", type=float, default=300.0, help="records a second")
    parser.add_argument("--only", type=_kinds, default=(), help="kinds of faults, comma separated")
    return parser.parse_args()


def _kinds(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if unknown := set(names) - set(kinds(1)):
        raise argparse.ArgumentTypeError(
            f"no such kind: {', '.join(unknown)}; there are {', '.join(kinds(1))}"
        )
    return names


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
