"""Errors that a user can cause or fix; the command line prints them in one line, without a traceback."""


class WalletError(Exception):
    """An error the user can act on: the message says what is wrong and what to do.

    `exit_code` is the exit code of the `wallet` command (docs/commands.md).
    """

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


class Stalled(WalletError):  # noqa: N818 - the name is the message
    """The watchdog found records to handle and no progress; see vitals/watchdog.py."""

    exit_code = 7
