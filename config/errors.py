"""Errors that a user can cause or fix, and the exit codes of the `wallet` command (docs/commands.md).

The command line prints them in one line, without a traceback: what is wrong and what to do. Classes that stand beside
what raises them are drawn here, too, with the exit code of each:

    WalletError                     1   the answer is no
    ├── InvalidTransaction          1   schemas.producer
    ├── ConfigurationError          2
    ├── NotReachable                3
    ├── Undelivered                 3   schemas.producer
    ├── Refused                     4
    │   └── Torn                    4   streams.endings
    ├── Stopped                     5
    │   ├── Differs                 5   sinks.tables
    │   ├── LeftOpen                5   streams.endings
    │   ├── LocksTaken              5   sinks.archive.work
    │   ├── Mismatch                5   sinks.archive.compare
    │   ├── Replaced                5   streams.endings
    │   └── Stuck                   5   streams.endings
    ├── BadLines                    6
    └── Stalled                     7
"""

#: Exit codes that need no error: lines of a file were bad or not delivered,
BAD_LINES = 6
#: a comparison found differences,
DIFFERENCES = 8
#: and 128 + SIGINT, as shells count.
INTERRUPTED = 130
#: The same of SIGPIPE: whoever read our output has gone, as `head` does.
READER_GONE = 141
#: A bug, with a traceback; Python's own 1 would say that the answer is no. EX_SOFTWARE of sysexits.h.
BUG = 70


class WalletError(Exception):
    """An error the user can act on: the message says what is wrong and what to do."""

    exit_code = 1


class ConfigurationError(WalletError):
    """A setting is wrong or contradicts the pipeline it is used with."""

    exit_code = 2


class NotReachable(WalletError):  # noqa: N818 - the name is the message
    """Kafka, Postgres or the registry did not answer within the configured wait."""

    exit_code = 3


class Refused(WalletError):  # noqa: N818 - the name is the message
    """Something that exists (topic, table, store, newer schema) is not what this pipeline may work with."""

    exit_code = 4


class Stopped(WalletError):  # noqa: N818 - the name is the message
    """The process ended itself to keep the ledger exact: a fence, a difference, no progress."""

    exit_code = 5


class BadLines(WalletError):  # noqa: N818 - the name is the message
    """Some lines were bad, and nothing was sent."""

    exit_code = BAD_LINES


class Stalled(WalletError):  # noqa: N818 - the name is the message
    """The watchdog found records to handle and no progress; see vitals/watchdog.py."""

    exit_code = 7
