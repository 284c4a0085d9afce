"""How the local stack tells what it is doing."""

from collections.abc import Callable

#: Takes one line, such as "starting Kafka".
Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """Tell nobody."""
