"""Logging in one line per event: `time level source event key=value ...`, on stderr.

Programs can split such a line, people can read it. Contents of records are logged at DEBUG only, and anything that
looks like a password is masked.
"""

import logging
import math
import re
import sys
from datetime import UTC, datetime
from typing import Any

from config.times import rfc3339

#: user:password@ in an address, and password=… in a DSN or a client's configuration.
_SECRETS = re.compile(
    r"(?P<address>://[^/\s:@]*:)[^/\s@]+(?=@)|(?P<field>(?:password|secret)['\"]?\s*[=:]\s*['\"]?)[^\s'\",]+",
    re.IGNORECASE,
)
#: Libraries that log every connection at INFO.
_TALKATIVE = ("aiokafka", "faust", "mode", "asyncio", "httpx", "opentelemetry", "urllib3")
#: Prefixes of the lines in which each of Faust's dozen services logs its start and stop.
_SERVICE = "[^"


#: Seconds after which a library's line may repeat, and how many kinds of lines are remembered.
SELDOM_S = 10.0
KINDS = 1_000


class EventLog:
    """A logger whose calls are an event's name and its fields: `log.info("caught_up", partition=3)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        """For debugging; the only level that may show contents of records."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Something an operator wants to see."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something an operator should look into."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something that stopped."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the current exception."""
        self._write(logging.ERROR, event, fields, trace=True)

    def failure(self, event: str, failure: BaseException, **fields: object) -> None:
        """An error with the traceback of the given exception."""
        self._write(logging.ERROR, event, fields, trace=failure)

    def _write(
        self, level: int, event: str, fields: dict[str, object], *, trace: BaseException | bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=trace)


class OneLine(logging.Formatter):
    """Formats records of EventLog and of any other logger as one line each, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line, without the line break."""
        at = rfc3339(datetime.fromtimestamp(record.created, UTC))
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            fields["traceback"] = self.formatException(record.exc_info)
        text = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        line = f"{at} {record.levelname.lower()} {record.name} {record.getMessage()}{text}"
        return masked(line.replace("\r", "\\r").replace("\n", "\\n"))


class Seldom(logging.Filter):
    """Limits how often a library repeats itself: aiokafka logs a lost broker 50 times a second.

    Our own events always pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log this line; a line that passes says how many like it were dropped."""
        if hasattr(record, "fields") or not record.name.startswith(_TALKATIVE):
            return True
        told_s, held = self._written.get(kind := (record.name, str(record.msg)), (-math.inf, 0))
        if record.created - told_s < SELDOM_S:
            self._written[kind] = (told_s, held + 1)
            return False
        if len(self._written) >= KINDS:
            self._written.clear()
        self._written[kind] = (record.created, 0)
        if held:
            record.fields = {"not_told": held}
        return True


def configure(level: str = "INFO") -> None:
    """Send the logs of this process to stderr, one line per event, from this level up; may be called again."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(OneLine())
    output.addFilter(_not_a_service_at_work)
    output.addFilter(Seldom())
    logging.basicConfig(level=level, handlers=[output], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def masked(text: str) -> str:
    """The text with every password replaced by `***`."""
    return _SECRETS.sub(lambda found: f"{found['address'] or found['field']}***", text)


def _not_a_service_at_work(record: logging.LogRecord) -> bool:
    return record.levelno != logging.INFO or not record.getMessage().startswith(_SERVICE)


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(mark in text for mark in ' "=\n'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
