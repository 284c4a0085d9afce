"""What a row is: its fields by name, and which names a file may have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

Fields = dict[str, object]
#: A row's number (of the line, in Parquet of the row) with its fields, or with what is wrong with it.
Row = tuple[int, Fields | str]

#: A column of this name and a key behind it holds one metadata entry, for example `metadata.channel`.
METADATA = "metadata."
#: Names that one message lists, at most: what a file holds never decides how long a message is.
LISTED = 8


class BadLine(Exception):  # noqa: N818 - it is an outcome, told with the line's number
    """A row that cannot be taken; the message says why."""


@dataclass(frozen=True)
class Shape:
    """Which fields a row must have and may have; with `metadata`, also `metadata` and `metadata.<key>`."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    metadata: bool = False

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Every name but those of metadata."""
        return self.required + self.optional

    @cached_property
    def _must(self) -> frozenset[str]:
        return frozenset(self.required)

    @cached_property
    def _may(self) -> frozenset[str]:
        return frozenset((*self.known, *["metadata"] * self.metadata))

    def wants(self, name: str) -> bool:
        """Whether a field or a column may have this name; nothing else is in a file that is taken."""
        return name in self.known or (self.metadata and (name == "metadata" or name.startswith(METADATA)))

    def problem(self, names: Iterable[str]) -> str | None:
        """What is wrong with the names of a row or of a file's columns, if anything is."""
        there = [*names]
        missing = [name for name in self.required if name not in there]
        unknown = [name for name in there if not self.wants(name)]
        if not (missing or unknown):
            return None
        known = ", ".join((*self.known, *[f"{METADATA}<key>"] * self.metadata))
        parts = [f"{listed(missing)} missing"] * bool(missing)
        parts += [f"{quoted(unknown)} not known; known are {known}"] * bool(unknown)
        return ", and ".join(parts)

    def check(self, fields: Fields) -> None:
        """Raise BadLine where a row has not the fields that it must have."""
        there = fields.keys()
        if self._must <= there <= self._may:
            return
        if (problem := self.problem(fields)) is not None:
            raise BadLine(problem)


def listed(names: Sequence[str]) -> str:
    """Some names as a list, the first of many."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(name[:60] for name in names[:LISTED]) + more


def quoted(names: Sequence[str]) -> str:
    """The same with quotation marks, and what is not to be printed escaped."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(repr(name[:60]) for name in names[:LISTED]) + more


def twice(names: Sequence[str]) -> list[str]:
    """Names that come more than once; columns without a name do not count."""
    return sorted({name for name in names if name and names.count(name) > 1})


def gathered(fields: Fields) -> Fields:
    """The same with every `metadata.<key>` in one object `metadata`; a null is a field that is not there.

    Raises BadLine for a key that comes twice.
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
            pairs += value  # a map of Parquet, which may have a key twice
        elif name == "metadata" and isinstance(value, dict):
            pairs += value.items()
        else:
            there[name] = value
    if pairs:
        if "metadata" in there:
            raise BadLine(f"metadata stands beside {METADATA}<key>, and is no object of strings")
        metadata = dict(pairs)
        if len(metadata) != len(pairs):
            raise BadLine("a metadata key comes twice")
        there["metadata"] = {key: value for key, value in metadata.items() if value is not None}
    return there
