"""How the local stack reports what it is doing."""

from collections.abc import Callable

#: Takes one line, such as "starting Kafka".
Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """Report nothing."""
