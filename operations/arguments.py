"""Arguments that several commands read alike."""

from datetime import datetime

from config.errors import ConfigurationError


def aware_time(option: str, text: str | None) -> datetime | None:
    """An aware time; one without a zone means something else on every machine, so it is refused."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text!r} is no time: write 2026-11-22T10:00:00Z") from None
    if at.tzinfo is None:
        raise ConfigurationError(f"{option} {text!r} has no zone: add Z or an offset such as +01:00")
    return at
