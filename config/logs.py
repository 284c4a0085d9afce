"""Logging in one line per event: `time level source event key=value ...`, on stderr.

Programs can split such a line, people can read it. What a record holds is logged at DEBUG only, and what
looks like a password is masked wherever it comes from.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

#: user:password@ in an address, and password=… in a DSN or a client's configuration.
_SECRETS = re.compile(
    r"(?P<address>://[^/\s:@]*:)[^/\s@]+(?=@)|(?P<field>(?:password|secret)['\"]?\s*[=:]\s*['\"]?)[^\s'\",]+",
    re.IGNORECASE,
)
#: Libraries that tell every connection at INFO.
_TALKATIVE = ("aiokafka", "faust", "mode", "asyncio", "httpx", "urllib3")
#: How Faust's services begin the lines that tell their starting and stopping, one for each of a dozen parts.
_SERVICE = "[^"


class EventLog:
    """A logger whose calls are an event's name and its fields: `log.info("caught_up", partition=3)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """What helps to find a fault; the only level that may show what a record holds."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What an operator wants to have seen."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What an operator should look at."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What stopped something."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception in hand."""
        self._write(logging.ERROR, event, fields, trace=True)

    def _write(self, level: int, event: str, fields: dict[str, object], *, trace: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=trace)


class OneLine(logging.Formatter):
    """Formats records of EventLog and of any other logger as one line each, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line, without its end."""
        at = (
            datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z")
        )
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            fields["traceback"] = self.formatException(record.exc_info)
        text = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        line = f"{at} {record.levelname.lower()} {record.name} {record.getMessage()}{text}"
        return masked(line.replace("\r", "\\r").replace("\n", "\\n"))


def configure(level: str = "INFO") -> None:
    """Send the logs of this process to stderr, one line an event, from this level up; may be called again."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(OneLine())
    output.addFilter(_not_a_service_at_work)
    logging.basicConfig(level=level, handlers=[output], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def masked(text: str) -> str:
    """The text with every password in it replaced by `***`."""
    return _SECRETS.sub(lambda found: f"{found['address'] or found['field']}***", text)


def _not_a_service_at_work(record: logging.LogRecord) -> bool:
    return record.levelno != logging.INFO or not record.getMessage().startswith(_SERVICE)


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(mark in text for mark in ' "=\n'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
