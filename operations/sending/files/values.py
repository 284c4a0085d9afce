"""Values of fields, whatever the file's format: taken if exact, otherwise BadLine says what is wrong."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from zoneinfo import ZoneInfo

from config.times import rfc3339
from operations.sending.files.shape import BadLine, Fields
from schemas.records import EPOCH, from_ms, from_us

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
#: Rounds nothing, unlike the usual context with its 28 digits.
_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
ISO = "iso"
#: Units of numbers since 1970, in microseconds.
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
#: Minor digits by currency, from ISO 4217. Codes that are not listed have no known minor unit: funds, metals, test
#: codes, and former currencies.
_BY_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF "
        "CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG "
        "HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR "
        "MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD "
        "SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG "
        "YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

MINOR_DIGITS = {code: digits for digits, codes in _BY_DIGITS.items() for code in codes.split()}
#: Variants of a mark that is written in several ways.
_LIKE = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}
_MINUS = "-\u2212"
#: Digits that a double always keeps; with more, it may be rounded.
_DOUBLE_DIGITS = 15
#: The same for a 32-bit float.
_SINGLE_DIGITS = 6
#: Most digits of an amount, before and after the point.


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


class Money:
    """Reads amounts with these marks. Thousands are grouped in threes throughout or not at all, without leading zeros:
    `0.500` is a half, written with another decimal mark.
    """

    def __init__(self, decimal_mark: str | None, thousands_mark: str | None) -> None:
        marks = re.escape(_LIKE.get(thousands_mark or "", thousands_mark or ""))
        grouped = f"[1-9][0-9]{{0,2}}(?P<mark>[{marks}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*|" if marks else ""
        part = f"(?:{re.escape(decimal_mark)}(?P<part>[0-9]{{1,{_DIGITS}}}))?" if decimal_mark else ""
        self._in_currency = bool(decimal_mark)
        self._written = re.compile(f"(?P<whole>{grouped}[0-9]{{1,{_DIGITS}}}){part}")

    def minor_units(self, value: object, digits: int, name: str) -> int:
        """The signed amount in minor units, of a currency with this many decimals. Raises BadLine."""
        if isinstance(value, float) and not self._in_currency:
            return whole_of({name: value}, name)
        exact = self._exact(value, name)
        minor = exact.scaleb(digits, _EXACT)
        if minor != minor.to_integral_value():
            raise BadLine(f"{name} {shown(value)} has more decimals than the {digits} of its currency")
        return int(minor)

    def _exact(self, value: object, name: str) -> Decimal:
        exact = None
        if isinstance(value, str):
            exact = self._of_text(value)
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            exact = Decimal(value)
        elif isinstance(value, float):
            exact = Decimal(repr(value))
            sure = _SINGLE_DIGITS if isinstance(value, Single) else _DOUBLE_DIGITS
            if exact.is_finite() and _places(exact) > sure:
                raise BadLine(
                    f"{name} {value} is a floating-point number that may have been rounded: write it as text"
                )
        if exact is None or not exact.is_finite():
            raise BadLine(f"{name} {shown(value)} is not an amount as the map describes it")
        if exact and not -_DIGITS <= exact.adjusted() <= _DIGITS:
            raise BadLine(f"{name} {shown(value)} is too large for an amount")
        return exact

    def _of_text(self, text: str) -> Decimal | None:
        text, negative = _sign(text.strip())
        found = self._written.fullmatch(text)
        if not found:
            return None
        groups = found.groupdict()
        whole = re.sub("[^0-9]", "", groups["whole"])
        return Decimal(f"{'-' * negative}{whole}.{groups.get('part') or '0'}")


def _places(exact: Decimal) -> int:
    """Digits from the first to the last one or the point: 1200000 has 7, 1200000.01 has 9."""
    return max(len(exact.normalize().as_tuple().digits), exact.adjusted() + 1)


def _sign(text: str) -> tuple[str, bool]:
    """An amount without its leading or trailing sign, and whether it is negative."""
    if text.startswith("(") and text.endswith(")"):
        return text[1:-1], True
    for bare, sign in ((text[1:].lstrip(), text[:1]), (text[:-1].rstrip(), text[-1:])):
        if sign and sign in _MINUS:
            return bare, True
        if sign == "+":
            return bare, False
    return text, False
