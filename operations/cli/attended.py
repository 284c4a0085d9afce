"""A `wallet` command that ends when the process that started it is gone, even one that was killed.

`python -m operations.cli.attended PID COMMAND ...`: the starter stops its children in order, but SIGKILL gives it no
time to, and a worker that nobody attends to would go on for ever.
"""

import os
import signal
import sys
import threading
import time

from operations.main import main

LOOK_EVERY_S = 0.5


def attend(starter: int) -> None:
    """Send this process SIGTERM once its parent is another than its starter."""
    while os.getppid() == starter:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=attend, args=(int(sys.argv.pop(1)),), name="attended", daemon=True).start()
    main()
