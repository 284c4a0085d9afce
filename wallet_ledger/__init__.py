"""The one name that an installation brings: the application's packages, in `app`, and what runs them.

They are called config, local and the like, so they are on the path of our own processes only. In the sources they are
beside this package.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
#: The folder with the application's packages.
APP = _HERE / "app" if (_HERE / "app").is_dir() else _HERE.parent


def main() -> None:
    """Run the `wallet` command."""
    sys.path.insert(0, str(APP))
    from operations.main import main as run  # noqa: PLC0415 - not to be found before

    run()
