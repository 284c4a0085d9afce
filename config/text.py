"""What is text: Python takes any bytes in an argument or a variable, and no server does."""

import re

#: How Python shows a byte that is not UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Whether it can be written in UTF-8."""
    return value.isascii() or not _SURROGATE.search(value)
