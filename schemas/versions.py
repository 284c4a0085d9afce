"""The released versions of the four schemas. A released version never changes; a new one is a new file.

To release version n of a schema: add `vn.avsc` to its folder, with a default for every field that is new;
add its decoder to `schemas.codec.DECODERS` and its golden bytes to the tests.
"""

from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, get_args

SchemaName = Literal["transaction", "ledger_entry", "balance", "snapshot"]
NAMES: tuple[SchemaName, ...] = get_args(SchemaName)


class SchemaIds(NamedTuple):
    """The schema ids in front of the bodies that a pipeline writes."""

    transaction: int
    ledger_entry: int
    balance: int
    snapshot: int


#: The ids of a pipeline without a registry.
FIXED_IDS = SchemaIds(1, 2, 3, 4)


@cache
def versions(name: SchemaName) -> tuple[int, ...]:
    """The numbers of the released versions of a schema, oldest first."""
    found = (file.name for file in files(f"schemas.{name}").iterdir() if file.name.endswith(".avsc"))
    return tuple(sorted(int(file.removeprefix("v").removesuffix(".avsc")) for file in found))


@cache
def schema_text(name: SchemaName, version: int | None = None) -> str:
    """The JSON of one version of a schema, the newest by default."""
    number = versions(name)[-1] if version is None else version
    return (files(f"schemas.{name}") / f"v{number}.avsc").read_text(encoding="utf-8")
