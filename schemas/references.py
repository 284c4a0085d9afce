"""Schemas that refer to others: in a registry, a named type may have its own subject.

Referenced schemas are put into the schema, each type where it is first named. The result is complete: it can be kept,
and read without a registry.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

#: The most schemas that one may refer to, directly or through others; and the most bytes of all together.
MOST_REFERENCES = 100
SCHEMA_BYTES = 262_144

_NAMED = {"record", "error", "enum", "fixed"}


class Reference(NamedTuple):
    """One version of a subject that a schema refers to, and its name in that schema."""

    name: str
    subject: str
    version: int


#: Returns the text of a reference, and its own references.
LookUp = Callable[[Reference], tuple[str, list[Reference]]]


def whole(text: str, references: Iterable[Reference], look_up: LookUp) -> str:
    """The schema with everything it refers to put into it; unchanged if it refers to nothing.

    Raises what `look_up` raises, and ValueError for a text that is not a schema or refers to too many.
    """
    texts: dict[tuple[str, int], str] = {}
    waiting, size = [*references], _size(text)
    if not waiting:
        return text
    while waiting:
        reference = waiting.pop()
        if (reference.subject, reference.version) in texts:
            continue
        if len(texts) == MOST_REFERENCES or size > SCHEMA_BYTES:
            raise ValueError(
                f"it refers to more than {MOST_REFERENCES} schemas, or {SCHEMA_BYTES} bytes of them"
            )
        found, further = look_up(reference)
        size += _size(found)
        texts[reference.subject, reference.version] = found
        waiting += further
    try:
        inlining = _Inlining()
        for one in texts.values():
            inlining.learn(json.loads(one), "")
        return json.dumps(inlining.inlined(json.loads(text), ""), ensure_ascii=False)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"its references cannot be resolved: {error!r}") from error


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


class _Inlining:
    """Resolves names as Avro does: one without a dot belongs to the namespace around it."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, str]] = {}
        self._defined: set[str] = set()

    def learn(self, schema: Any, namespace: str) -> None:
        """Remember the named types in a schema."""
        if isinstance(schema, list):
            for branch in schema:
                self.learn(branch, namespace)
        elif isinstance(schema, dict):
            if schema["type"] in _NAMED:
                name, namespace = _full_name(schema, namespace)
                self._known.setdefault(name, (schema, namespace))
            for within in _parts(schema):
                self.learn(within, namespace)

    def inlined(self, schema: Any, namespace: str) -> Any:
        """The schema with the types that it names in it, each at its first use."""
        if isinstance(schema, str):
            name = schema if "." in schema or not namespace else f"{namespace}.{schema}"
            if name in self._defined or name not in self._known:
                return name if name in self._defined else schema
            return self.inlined(*self._known[name])
        if isinstance(schema, list):
            return [self.inlined(branch, namespace) for branch in schema]
        made = dict(schema)
        if schema["type"] in _NAMED:
            name, namespace = _full_name(schema, namespace)
            if name in self._defined:
                return name
            self._defined.add(name)
            made |= {"name": name.rpartition(".")[2], "namespace": namespace}
        for part in ("type", "items", "values"):
            if part in made:
                made[part] = self.inlined(made[part], namespace)
        if "fields" in made:
            made["fields"] = [
                {**field, "type": self.inlined(field["type"], namespace)} for field in schema["fields"]
            ]
        return made


def _full_name(schema: Any, namespace: str) -> tuple[str, str]:
    """The full name of a named type, and the namespace of the types within it."""
    name = schema["name"]
    if "." in name:
        return name, name.rpartition(".")[0]
    namespace = schema.get("namespace", namespace)
    return (f"{namespace}.{name}" if namespace else name), namespace


def _parts(schema: Any) -> list[Any]:
    parts = [schema[part] for part in ("items", "values") if part in schema]
    parts += [field["type"] for field in schema.get("fields", ())]
    return parts if isinstance(schema["type"], str) else [*parts, schema["type"]]
