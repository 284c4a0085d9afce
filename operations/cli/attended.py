"""Run a `wallet` command that ends when the process that started it is gone, even if that was killed.

`python -m operations.cli.attended PID COMMAND ...`: the starter normally stops its children, but not
after a SIGKILL, and then a worker would run forever with nobody watching it.
"""

import os
import signal
import sys
import threading
import time

from operations.main import main

LOOK_EVERY_S = 0.5


def attend(starter: int) -> None:
    """Send this process SIGTERM once its parent is no longer its starter."""
    while os.getppid() == starter:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=attend, args=(int(sys.argv.pop(1)),), name="attended", daemon=True).start()
    main()
