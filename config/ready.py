"""A container's health check: is the process in it ready, and if not, why not.

`python -m wallet_ledger.app.config.ready PORT` exits with 0 if `/ready` on this machine says so, otherwise with 1 and
the reasons, one per line. It reads no settings and imports nothing of ours: a check every few seconds must be cheap.
"""

import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

PATIENCE_S = 5.0


def main(port: str) -> int:
    """Print what `/ready` answers, and return the exit code."""
    asking = HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE_S)
    try:
        asking.request("GET", "/ready")
        answer = asking.getresponse()
        sys.stdout.write(answer.read().decode(errors="replace"))
    except (OSError, HTTPException) as failure:
        sys.stdout.write(f"nothing answers on port {port} ({failure}): see the process's log\n")
        return 1
    finally:
        asking.close()
    return 0 if answer.status == HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
