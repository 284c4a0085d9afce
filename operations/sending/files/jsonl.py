"""JSON Lines: one object a line."""

import json
import sys
from collections.abc import Iterator
from decimal import Decimal

from config.errors import ConfigurationError
from operations.sending.files.shape import BadLine, Fields, Row, Shape
from operations.sending.files.source import BOM
from operations.sending.files.values import FLOAT_EXACT


def rows(lines: Iterator[str], shape: Shape) -> Iterator[Row]:
    """The object on every line that is not blank; raises ConfigurationError if the file is not JSON Lines."""
    begun = False
    open_row: Row | None = (
        None  # an object that does not end on its line: the next line shows whether it is spread over several
    )
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix(BOM)
        if not text:
            continue
        if not begun:
            _refuse_other_forms(text, shape)
        begun = True
        if open_row:
            if text.startswith('"'):
                raise ConfigurationError(
                    f"its objects span several lines (from line {open_row[0]} on), but JSON Lines has one a line: "
                    "convert it, for example with `jq -c .`"
                )
            yield open_row
        row = number, _fields(text)
        open_row = (
            row if isinstance(row[1], str) and text.startswith("{") and not text.endswith("}") else None
        )
        if not open_row:
            yield row
    if open_row:
        yield open_row


def _refuse_other_forms(first: str, shape: Shape) -> None:
    if first.startswith("["):
        raise ConfigurationError(
            "it is one JSON array, but JSON Lines has one object a line: convert it, for example with `jq -c '.[]'`"
        )
    if not first.startswith("{") and sum(name in first for name in shape.known) > 1:
        raise ConfigurationError("it looks like CSV: name it .csv or add --format csv")


def _fields(text: str) -> Fields | str:
    try:
        fields = _decoded(text)
    except BadLine as bad:
        return str(bad)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text[error.pos] in "{[":
            return "more than one JSON object: write one per line"
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except ValueError:  # Python's limit on digits
        return "a number has far too many digits"
    except RecursionError:
        return "not JSON: nested too deeply"
    return fields if isinstance(fields, dict) else "not a JSON object"


def _once(pairs: list[tuple[str, object]]) -> Fields:
    """A JSON object without repeated names; json itself would silently keep the last one."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadLine("a field appears twice")
    return fields


def _number(text: str) -> float | Decimal:
    """A number with a point or an exponent: exact, or a float where a double could not have been exact."""
    try:
        exact = Decimal(text)
    except ArithmeticError:  # an absurd exponent
        return float(text)
    rounded = FLOAT_EXACT <= exact.copy_abs() < sys.float_info.max and exact == exact.to_integral_value()
    return float(text) if rounded else exact


def _no_number(text: str) -> object:
    raise BadLine(f"not JSON: {text} is not a number")


#: Built once; `json.loads` would build one for every line.
_decoded = json.JSONDecoder(object_pairs_hook=_once, parse_float=_number, parse_constant=_no_number).decode
