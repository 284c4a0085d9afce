"""A real Kafka and a real PostgreSQL on this machine, for the demo and the tests."""

from pathlib import Path

#: Where a stack is unless `--folder` says otherwise.
DEFAULT_FOLDER = Path(".local/stack")
