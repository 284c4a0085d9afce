"""How hard the properties are tried: `make test-full` draws so many times the examples of `make test`."""

import os

import pytest
from _pytest.mark import ParameterSet

EFFORT = int(os.environ.get("TEST_EFFORT", "1"))


def examples(count: int) -> int:
    """How many examples of a property to draw, where `make test` draws `count`."""
    return count * EFFORT


def in_full(*values: object) -> ParameterSet:
    """A case that runs in `make test-full` only."""
    return pytest.param(*values, marks=pytest.mark.full)
