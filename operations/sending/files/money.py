"""Convert amounts as files write them to whole minor units: exactly, or BadLine."""

import re
from decimal import Decimal

from operations.sending.files.shape import BadLine
from operations.sending.files.values import Single, shown, whole_of

#: Variants of a mark that is written in several ways.
_LIKE = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}
_MINUS = "-\u2212"
#: Digits that a double always keeps; with more, it may be rounded.
_DOUBLE_DIGITS = 15
#: The same for a 32-bit float.
_SINGLE_DIGITS = 6
#: Most digits of an amount, before and after the point.
_DIGITS = 40


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
        # Not by Decimal arithmetic, which rounds.
        sign, figures, exponent = exact.as_tuple()
        assert isinstance(exponent, int)  # noqa: S101 - it is finite
        shift = exponent + digits
        number = int("".join(map(str, figures)) or "0")
        scale = int("1" + "0" * abs(shift))
        if shift < 0 and number % scale:
            raise BadLine(f"{name} {shown(value)} has more decimals than the {digits} of its currency")
        number = number * scale if shift >= 0 else number // scale
        return -number if sign else number

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
