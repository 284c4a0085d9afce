"""Text: Python accepts any bytes in arguments and variables, but no server does."""

import re

#: The surrogates that stand for bytes that are not UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Whether it can be encoded in UTF-8."""
    return value.isascii() or not _SURROGATE.search(value)
