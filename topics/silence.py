"""Say once in the log that Kafka is silent, and once that it is back."""

import time

from config.logs import EventLog


class Silence:
    """What one client of Kafka sees of it; `who` is in both lines of its log. Not for several threads."""

    def __init__(self, log: EventLog, **who: object) -> None:
        self._log, self._who = log, who
        self._since: float | None = None

    def noticed(self, reason: str, since: float | None = None) -> None:
        """Nobody answers, `since` a moment of the monotonic clock (now); nothing is logged again until `over`."""
        log = self._log
        if self._since is None:
            self._since = time.monotonic() if since is None else since
            log.warning("waiting_for_kafka", **self._who, reason=reason)

    def over(self) -> bool:
        """Kafka answers; returns whether it was silent until now."""
        if self._since is None:
            return False
        log = self._log
        log.info("kafka_is_back", **self._who, away_s=round(time.monotonic() - self._since))
        self._since = None
        return True
