"""The `wallet` command, by the path of this file for children that must run this very code."""

import sys
from pathlib import Path

if __name__ == "__main__":  # a process that an audit starts imports this file, too
    here = Path(__file__).parent  # on the path if that was how; our packages are beside it
    sys.path[:] = [str(here.parent), *(one for one in sys.path if one != str(here))]
    from operations.main import main

    main()
