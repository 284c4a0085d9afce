"""Rows: fields by name, and the names that a file may have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

Fields = dict[str, object]
#: A row's number (its line, in Parquet its row) with its fields, or with what is wrong with it.
Row = tuple[int, Fields | str]

#: A column with this prefix holds one metadata entry, for example `metadata.channel`.
METADATA = "metadata."
#: Most names in one message: a file's contents never decide how long a message is.
LISTED = 8


class BadLine(Exception):  # noqa: N818 - it is an outcome, reported with the line's number
    """A row that cannot be used; the message says why, on one line: names in it may hold line breaks."""

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in super().__str__())


@dataclass(frozen=True)
class Shape:
    """The fields that a row must and may have; with `metadata`, also `metadata` and `metadata.<key>`."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    metadata: bool = False

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Every name except metadata's."""
        return self.required + self.optional

    @cached_property
    def _must(self) -> frozenset[str]:
        return frozenset(self.required)

    @cached_property
    def _may(self) -> frozenset[str]:
        return frozenset((*self.known, *["metadata"] * self.metadata))

    def wants(self, name: str) -> bool:
        """Whether a field or column may have this name."""
        return name in self.known or (self.metadata and (name == "metadata" or name.startswith(METADATA)))

    def problem(self, names: Iterable[str]) -> str | None:
        """What is wrong with the names of a row's fields or a file's columns, or None."""
        there = [*names]
        missing = [name for name in self.required if name not in there]
        unknown = [name for name in there if not self.wants(name)]
        if not (missing or unknown):
            return None
        known = ", ".join((*self.known, *[f"{METADATA}<key>"] * self.metadata))
        parts = [f"{listed(missing)} missing"] * bool(missing)
        parts += [f"{quoted(unknown)} unknown; known are {known}"] * bool(unknown)
        return ", and ".join(parts)

    def require(self, fields: Fields) -> None:
        """Raise BadLine if a row does not have the required fields."""
        there = fields.keys()
        if self._must <= there <= self._may:
            return
        if (problem := self.problem(fields)) is not None:
            raise BadLine(problem)


def listed(names: Sequence[str]) -> str:
    """Names as a list; of many, only the first."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(name[:60] for name in names[:LISTED]) + more


def quoted(names: Sequence[str]) -> str:
    """The same with quotation marks and unprintable characters escaped."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(repr(name[:60]) for name in names[:LISTED]) + more


def twice(names: Sequence[str]) -> list[str]:
    """Names that appear more than once; columns without a name do not count."""
    return sorted({name for name in names if name and names.count(name) > 1})


def gathered(fields: Fields) -> Fields:
    """The same with every `metadata.<key>` in one object `metadata`; a null means no field.

    Raises BadLine for a repeated key.
    """
    if None not in fields.values() and not any(name.startswith("metadata") for name in fields):
        return fields
    there: Fields = {}
    pairs: list[tuple[object, object]] = []
    for name, value in fields.items():
        if value is None:
            continue
        if name.startswith(METADATA):
            pairs.append((name.removeprefix(METADATA), value))
        elif name == "metadata" and isinstance(value, list) and all(isinstance(one, tuple) for one in value):
            pairs += value  # a Parquet map, which may repeat a key
        elif name == "metadata" and isinstance(value, dict):
            pairs += value.items()
        else:
            there[name] = value
    if pairs:
        if "metadata" in there:
            raise BadLine(f"metadata is used together with {METADATA}<key> but is not an object of strings")
        metadata = dict(pairs)
        if len(metadata) != len(pairs):
            raise BadLine("a metadata key appears twice")
        there["metadata"] = {key: value for key, value in metadata.items() if value is not None}
    return there
