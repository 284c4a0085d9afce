"""Values of fields, whatever the file's format: taken if exact, otherwise BadLine says what is wrong."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

from operations.sending.files.shape import BadLine, Fields
from schemas.records import from_ms

#: From here on a double cannot represent every whole number.
FLOAT_EXACT = 2**53
#: The same for a 32-bit float.
SINGLE_EXACT = 2**24
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_NOT_WHOLE = "is not a whole number of minor units: use --map to read decimals and thousands marks"
#: Names of a value's type; the first that fits.
_KINDS: list[tuple[type | tuple[type, ...], str]] = [
    (bool, "true or false"),
    ((int, float, Decimal), "a number"),
    (str, "text"),
    (bytes, "bytes"),
    (date, "a time"),
    (dict, "an object"),
    (list, "a list"),
]
#: More digits than any amount has.
_DIGITS = 40
_TOO_LARGE = 10**_DIGITS


class Single(float):
    """A number that was stored as a 32-bit float."""


def text_of(fields: Fields, name: str) -> str:
    """The text in a field; raises BadLine for anything else."""
    value = fields[name]
    if not isinstance(value, str):
        raise BadLine(f"{name} is {kind_of(value)}, not a string")
    return value


def whole_of(fields: Fields, name: str) -> int:
    """An exact whole number of any type; raises BadLine instead of rounding."""
    value = fields[name]
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= _TOO_LARGE:
            raise BadLine(f"{name} has more than {_DIGITS} digits")
        return value
    if isinstance(value, float | Decimal):
        return _whole(value, name)
    raise BadLine(f"{name} {shown(value)} {_NOT_WHOLE}")


def time_of(fields: Fields, name: str) -> datetime:
    """The aware time in a field, in UTC; raises BadLine if it is ambiguous or out of range in UTC."""
    value = fields[name]
    if isinstance(value, datetime):  # from a format with types
        return in_utc(value, name)
    if isinstance(value, date):
        raise BadLine(f"{name} {value} is a day without a time: use --map to read it")
    try:
        return in_utc(datetime.fromisoformat(text_of(fields, name)), name)
    except ValueError:
        raise BadLine(f"{name} {shown(value)} is not an ISO 8601 time") from None


def moment_of(fields: Fields, name: str) -> datetime:
    """A time in ISO 8601 with a zone, or in milliseconds since 1970, UTC; raises BadLine."""
    value = fields[name]
    digits = isinstance(value, str) and value.isdecimal() and value.isascii()
    if digits or (isinstance(value, int | float | Decimal) and not isinstance(value, bool)):
        try:
            return from_ms(whole_of(fields, name))
        except OverflowError:
            raise BadLine(
                f"{name} {shown(value)} is out of range for milliseconds since 1970: are these microseconds?"
            ) from None
    return time_of(fields, name)


def in_utc(at: datetime, name: str) -> datetime:
    """The same time in UTC; raises BadLine if it has no zone or is not within the years 1 to 9999."""
    if at.tzinfo is None:
        raise BadLine(f"{name} '{at}' has no zone: add Z or an offset, or set its zone with --map")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise BadLine(f"{name} '{at}' is not within the years 1 to 9999 in UTC") from None


def shown(value: object) -> str:
    """A value for a message: quoted if it is text, and shortened."""
    if isinstance(value, str):
        return repr(value[:40])
    return str(value)[:40] if isinstance(value, bool | int | float | Decimal) else kind_of(value)


def kind_of(value: object) -> str:
    """The type of a value, in words."""
    return next((words for types, words in _KINDS if isinstance(value, types)), "null")


def _whole(value: float | Decimal, name: str) -> int:
    exact = Decimal(value)  # exact for floats, too, unlike their printed digits
    if not exact.is_finite():
        raise BadLine(f"{name} {value} is not a number")
    bits, beyond = (24, SINGLE_EXACT) if isinstance(value, Single) else (53, FLOAT_EXACT)
    if isinstance(value, float) and exact.copy_abs() >= beyond:
        raise BadLine(
            f"{name} {value} is a floating-point number of 2^{bits} or more, which may have been rounded: write it "
            "as a whole number or as text"
        )
    if exact.adjusted() > _DIGITS:
        raise BadLine(f"{name} {shown(value)} has more than {_DIGITS} digits")
    if exact != exact.to_integral_value():
        kind = "a floating-point number" if isinstance(value, float) else "a decimal number"
        raise BadLine(f"{name} {shown(value)}, {kind}, {_NOT_WHOLE}")
    return int(exact)
