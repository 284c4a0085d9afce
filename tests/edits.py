"""Code with something changed in it, to see whether what must see it does."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import NamedTuple, cast


class Edit(NamedTuple):
    """Replaces text that occurs once in a function's source."""

    function: Callable[..., object]
    old: str
    new: str


@contextmanager
def edited(name: str, edits: Sequence[Edit]) -> Iterator[None]:
    """Run with the edits in place: the functions stay the same objects, their code is another's."""
    functions = {edit.function: inspect.getsource(edit.function) for edit in edits}
    for function, old, new in edits:
        source = functions[function]
        assert source.count(old) == 1, f"{name}: the source has changed, mutate it anew: {old!r}"
        functions[function] = source.replace(old, new)
    before = {}
    try:
        for each, source in functions.items():
            function = cast("FunctionType", each)
            before[function] = function.__code__
            function.__code__ = _compiled(function, textwrap.dedent(source))
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


def _compiled(function: FunctionType, source: str) -> CodeType:
    namespace = dict(function.__globals__)
    exec(compile(source, f"<mutated {function.__qualname__}>", "exec"), namespace)  # noqa: S102 - our own source
    return cast("FunctionType", namespace[function.__name__]).__code__
