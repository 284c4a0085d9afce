"""`wallet` as a child that ends with the process that started it, by the path of this file: PID COMMAND ..."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

LOOK_EVERY_S = 0.5


def attend(starter: int) -> None:
    """Send this process SIGTERM once its parent is no longer its starter."""
    while os.getppid() == starter:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    here = Path(__file__).parent  # on the path, and our packages are not
    sys.path[:] = [str(here.parents[1]), *(one for one in sys.path if one != str(here))]
    from operations.main import main

    threading.Thread(target=attend, args=(int(sys.argv.pop(1)),), name="attended", daemon=True).start()
    main()
