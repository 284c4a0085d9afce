"""The file that `--map` names: how the user's columns become those of a transaction (docs/files.md)."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from config.errors import ConfigurationError
from operations.sending.files.delimited import PREAMBLE_LINES, Dialect
from operations.sending.files.values import ISO, problem_of

#: Largest map in bytes: a huge file named by mistake is not read to its end.
MAP_BYTES = 1024 * 1024

Kind = Literal["CREDIT", "DEBIT"]


def _checked_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"{name[:40]!r} is not a time zone: write one such as Europe/Berlin or UTC"
        ) from None
    return name


def _checked_format(form: str) -> str:
    if problem := problem_of(form):
        raise ValueError(problem)
    return form


def _checked_encoding(name: str) -> str:
    try:
        "".encode(name)
        b"".decode(name)
    except (LookupError, ValueError):
        raise ValueError(
            f"{name[:40]!r} is not an encoding: write one such as cp1252, latin-1 or utf-16"
        ) from None
    return name


Zone = Annotated[str, AfterValidator(_checked_zone)]
Format = Annotated[str, AfterValidator(_checked_format)]
Encoding = Annotated[str, AfterValidator(_checked_encoding)]
Name = Annotated[str, Field(min_length=1)]
OneCharacter = Annotated[str, Field(min_length=1, max_length=1, pattern=r"[^\r\n\x00]")]
Digits = Annotated[int, Field(ge=0, le=18)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def _one_of(self, *names: str) -> None:
        there = [name for name in names if getattr(self, name) is not None]
        if len(there) != 1:
            raise ValueError(f"set one of {', '.join(names)}")

    def taken(self) -> list[str]:
        """The columns it reads."""
        column = getattr(self, "column", None)
        return [column] if column else []


class Text(_Table):
    """A column, or a constant for every row."""

    column: Name | None = None
    constant: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        self._one_of("column", "constant")
        return self


class Group(_Table):
    """A column."""

    column: Name


class TransactionId(_Table):
    """A column of UUIDs, or columns to derive an id from."""

    column: Name | None = None
    derived_from: Annotated[list[Name], Field(min_length=1)] | None = None
    repeats: Literal["refuse", "number"] = "refuse"

    @model_validator(mode="after")
    def _one(self) -> Self:
        self._one_of("column", "derived_from")
        return self

    def taken(self) -> list[str]:
        """The columns it reads."""
        return self.derived_from or super().taken()


class Type(_Table):
    """Words in a column, a constant, or the sign of the amount: what a negative one means."""

    column: Name | None = None
    credit: list[Name] = ["CREDIT"]
    debit: list[Name] = ["DEBIT"]
    constant: Kind | None = None
    minus: Kind | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        self._one_of("column", "constant", "minus")
        if both := {*self.credit} & {*self.debit}:
            raise ValueError(f"{min(both)!r} is in both credit and debit: remove it from one")
        return self


class Amount(_Table):
    """One column, or one per type. In currency units if a decimal mark is set, otherwise in minor units."""

    column: Name | None = None
    debit: Name | None = None
    credit: Name | None = None
    decimal_mark: Literal[".", ","] | None = None
    thousands_mark: Literal[".", ",", " ", "'", "_"] | None = None
    minor_digits: Digits | dict[str, Digits] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.debit is None) != (self.credit is None) or (self.debit and self.debit == self.credit):
            raise ValueError("debit and credit must be two columns")
        if self.debit and self.column:
            raise ValueError("set either column, or debit and credit")
        if self.decimal_mark and self.decimal_mark == self.thousands_mark:
            raise ValueError("decimal_mark and thousands_mark must differ")
        if self.minor_digits is not None and not self.decimal_mark:
            raise ValueError("minor_digits needs decimal_mark: without it, amounts are in minor units")
        return self

    def taken(self) -> list[str]:
        """The columns it reads."""
        return [self.debit, self.credit] if self.debit and self.credit else [self.column or "amount"]


class Time(_Table):
    """One column, or several to join with a space, for example a day and a time."""

    column: Name | Annotated[list[Name], Field(min_length=1)] | None = None
    formats: Annotated[list[Format], Field(min_length=1)] = [ISO]
    zone: Zone | None = None

    def taken(self) -> list[str]:
        """The columns it reads; empty for the column of the field's own name."""
        return self.column if isinstance(self.column, list) else super().taken()


class Mapping(_Table):
    """The whole map. A field that it does not describe is read from the column of that name, as without a map."""

    encoding: Encoding | None = None
    delimiter: OneCharacter = ","
    quote: Annotated[str, Field(max_length=1, pattern=r"^[^\r\n\x00]?$")] = '"'
    skip_lines: Annotated[int, Field(ge=0, le=PREAMBLE_LINES)] = 0
    header_begins_with: Name | None = None
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    other_columns: Literal["refuse", "ignore"] = "refuse"

    transaction_id: TransactionId | None = None
    wallet_id: Text | None = None
    type: Type | None = None
    amount: Amount | None = None
    currency: Text | None = None
    occurred_at: Time | None = None
    recorded_at: Time | None = None
    group_id: Group | None = None
    metadata: dict[Name, Name] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.header_begins_with and (self.skip_lines or self.columns):
            raise ValueError("header_begins_with cannot be combined with skip_lines or columns")
        if self.delimiter == self.quote:
            raise ValueError("delimiter and quote must differ")
        if self.amount and self.amount.debit and self.type:
            raise ValueError("amount.debit and amount.credit already give the type: leave type out")
        named = [name for name in self.columns or [] if name]
        if again := {name for name in named if named.count(name) > 1}:
            raise ValueError(f"columns lists {min(again)!r} twice")
        return self

    @property
    def dialect(self) -> Dialect:
        """The CSV dialect."""
        return Dialect(
            self.delimiter,
            self.quote,
            self.skip_lines,
            self.header_begins_with or "",
            tuple(self.columns or ()),
        )


def load(path: Path) -> Mapping:
    """Read a map from a TOML file, or JSON if named so; raises ConfigurationError, in one line."""
    try:
        with path.open("rb") as source:
            raw = source.read(MAP_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(raw) > MAP_BYTES:
        raise ConfigurationError(
            f"{path} has more than {MAP_BYTES} bytes, too much for a map: is it the right file?"
        )
    as_json = path.suffix.lower() == ".json"
    try:
        text = raw.decode("utf-8-sig")
        found = json.loads(text) if as_json else tomllib.loads(text)
        return Mapping.model_validate(found)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_told(error)}") from None
    except (ValueError, RecursionError) as error:
        told = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"{path} is not a map in {'JSON' if as_json else 'TOML'}: {told}") from None


def _told(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'the map'}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors(include_url=False)[:5]
    )
