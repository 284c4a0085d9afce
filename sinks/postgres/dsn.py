"""Check WALLET_POSTGRES, and report at once a server's refusal that waiting does not change.

No message shows a part that may be secret, and none quotes the DSN's parser, since that shows the DSN.
"""

import re
from pathlib import Path

import psycopg
from psycopg import conninfo

from config.errors import ConfigurationError, Refused, WalletError

FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
#: What libpq and servers say about a wrong setting. They give no SQLSTATE for a refused connection.
_WRONG = re.compile(
    r'password authentication failed|no password supplied|role ".*" does not exist|database ".*" does not exist'
    r"|no pg_hba|statement pooling mode"
    r"|invalid \S+ value|invalid port|invalid integer value|may not be used with sslrootcert"
    r"|root certificate file|certificate file|private key file|certificate verify failed"
    r"|does not match host name|server does not support SSL"
)
_NO_RIGHT = re.compile(r"permission denied for database|is not permitted to log in")
_PORTS = re.compile(r"[0-9,]*")


def checked(dsn: str) -> str:
    """The DSN; raises ConfigurationError for one that cannot be right."""
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "WALLET_POSTGRES is not a DSN: it should look like postgresql://user:password@host:5432/database"
        ) from None
    places = [str(parts.get(name) or "") for name in ("host", "hostaddr", "dbname")]
    if any("@" in place for place in places) or not _PORTS.fullmatch(str(parts.get("port") or "")):
        # Beyond the first @ and the first / of a URL its password would be taken for these, and shown.
        raise ConfigurationError(
            "WALLET_POSTGRES has an @ in its host or database, or a port that is not a number: write @ : / ? # % in "
            "its user and password as %40 %3A %2F %3F %23 %25"
        )
    for name in FILES:
        path = str(parts.get(name) or "")
        if path and path != "system" and not Path(path).is_file():
            raise ConfigurationError(f"{name} of WALLET_POSTGRES is not a file: {path}")
    return dsn


def refusal(reason: str) -> WalletError | None:
    """The error for a refused connection; None if trying again may help."""
    if _NO_RIGHT.search(reason):
        return Refused(f"the user of WALLET_POSTGRES lacks a right: {reason}: GRANT it")
    if _WRONG.search(reason):
        return ConfigurationError(f"PostgreSQL refuses WALLET_POSTGRES: {reason}")
    return None
