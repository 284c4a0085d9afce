"""Times in the formats and the zone of the map: unambiguous, or BadLine."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from config.times import rfc3339
from operations.sending.files.shape import BadLine
from operations.sending.files.values import in_utc, shown, whole_of
from schemas.records import EPOCH, from_us

ISO = "iso"
#: Units of numbers since 1970, in microseconds.
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}


class Times:
    """Reads times; a time without a zone is in `zone`."""

    def __init__(self, formats: Sequence[str], zone: ZoneInfo | None) -> None:
        self._formats, self._zone = formats, zone

    def read(self, value: object, name: str) -> datetime:
        """The aware time in UTC; raises BadLine if it is not a time or is ambiguous."""
        if isinstance(value, datetime):
            return self._placed(value, name)
        if isinstance(value, date):
            return self._placed(datetime(value.year, value.month, value.day), name)  # noqa: DTZ001 - zoned next
        found = {at for form in self._formats if (at := self._by(form, value, name))}
        if not found:
            raise BadLine(
                f"{name} {shown(value)} is not in any of the map's formats: {', '.join(self._formats)}"
            )
        if len(found) > 1:
            meant = " or ".join(sorted(rfc3339(at) for at in found))
            raise BadLine(f"{name} {shown(value)} may mean {meant}: remove one of the map's formats")
        return found.pop()

    def _by(self, form: str, value: object, name: str) -> datetime | None:
        """The time in one format; None if it is not in that format."""
        if form in EPOCHS:
            return _since_1970(value, EPOCHS[form], name)
        if not isinstance(value, str):
            return None
        try:
            at = datetime.fromisoformat(value) if form == ISO else datetime.strptime(value, form)  # noqa: DTZ007
        except ValueError:
            return None
        return self._placed(at, name)

    def _placed(self, at: datetime, name: str) -> datetime:
        if at.tzinfo is not None or self._zone is None:
            return in_utc(at, name)
        earlier, later = (in_utc(at.replace(tzinfo=self._zone, fold=fold), name) for fold in (0, 1))
        if earlier == later:
            return earlier
        if earlier.astimezone(self._zone).replace(tzinfo=None) != at:
            raise BadLine(f"{name} '{at}' does not exist in {self._zone}: the clock was put forward")
        raise BadLine(f"{name} '{at}' occurs twice in {self._zone}: the clock was put back; write an offset")


def _since_1970(value: object, unit_us: int, name: str) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        return from_us(whole_of({name: value}, name) * unit_us).astimezone(UTC)
    except BadLine:
        return None
    except OverflowError:
        raise BadLine(f"{name} {shown(value)} is not within the years 1 to 9999") from None


def problem_of(form: str) -> str | None:
    """What is wrong with a format, or None: it must name day, month and year."""
    if form == ISO or form in EPOCHS:
        return None
    if "%Z" in form:
        return f"{form!r} would ignore the zone's name: use %z, which reads an offset"
    if "%I" in form and "%p" not in form:
        return f"{form!r} has a 12-hour clock without AM or PM: use %H for 24 hours"
    sample = EPOCH.replace(year=2026, month=11, day=23, hour=21, minute=34, second=56)
    try:
        back = datetime.strptime(sample.strftime(form), form)  # noqa: DTZ007 - only its day counts
    except ValueError as error:
        return f"{form!r} is not a date format: {error}"
    return None if back.date() == sample.date() else f"{form!r} does not name day, month and year"
