"""How long each topic keeps its records, and what a finite retention costs (DESIGN section 3).

Kafka counts by the records' own timestamps and deletes whole segments, whether they were read or not.
`balances` and `pipeline` are compacted and have no retention.
"""

from collections.abc import Mapping
from typing import NamedTuple

from config.settings import Settings
from topics.cluster import FoundTopic
from topics.names import DAY_MS, Topics

FOR_EVER_MS = -1

#: What can no longer be done once records of a topic are gone.
COSTS = {
    "transactions": "audits and rebuilds cannot read from the beginning",
    "ledger": "exact duplicates are not found after a worker lost its store, and sinks cannot replay",
    "snapshots": "the snapshots sink cannot replay what is gone",
    "rejections": "the rejections sink cannot replay what is gone",
}


class Change(NamedTuple):
    """A topic whose retention differs from the settings, in milliseconds; -1 is forever."""

    topic: str
    before_ms: int
    wanted_ms: int
    cost: str

    @property
    def shortens(self) -> bool:
        """Whether Kafka will delete records that it has kept so far."""
        return self.wanted_ms != FOR_EVER_MS and (
            self.before_ms == FOR_EVER_MS or self.wanted_ms < self.before_ms
        )

    def __str__(self) -> str:
        told = (
            f"topic {self.topic} keeps records {_length(self.wanted_ms)}, before: {_length(self.before_ms)}"
        )
        return f"{told}; {self.cost}" if self.shortens else told


def changes(settings: Settings, found: Mapping[str, FoundTopic]) -> list[Change]:
    """The changes that settings ask of existing topics; without a setting, a topic stays as it is."""
    names = Topics.of(settings)
    asked = []
    for name, cost in COSTS.items():
        days: int | None = getattr(settings, f"retention_{name}_days")
        topic = found.get(getattr(names, name))
        if days is None or topic is None:
            continue
        before_ms = retention_ms(topic)
        wanted_ms = days * DAY_MS or FOR_EVER_MS
        if before_ms != wanted_ms:
            asked.append(Change(getattr(names, name), before_ms, wanted_ms, cost))
    return asked


def too_short(settings: Settings, found: Mapping[str, FoundTopic], age_ms: float) -> str | None:
    """The first topic that would lose a record of this age at once, if any."""
    names = Topics.of(settings)
    for topic in (getattr(names, name) for name in COSTS):
        if FOR_EVER_MS != retention_ms(found[topic]) < age_ms:
            return str(topic)
    return None


def retention_ms(topic: FoundTopic) -> int:
    """A topic's `retention.ms`; -1 is forever."""
    return int(topic.config.get("retention.ms") or FOR_EVER_MS)


def warnings(settings: Settings, found: Mapping[str, FoundTopic]) -> list[str]:
    """What finite retention of topics costs, whoever set it."""
    names = Topics.of(settings)
    told = []
    for name, cost in COSTS.items():
        topic = getattr(names, name)
        for setting in ("retention.ms", "retention.bytes"):
            value = found[topic].config.get(setting, "-1")
            if value != "-1":
                told.append(f"topic {topic} has {setting}={value}: {cost}")
    return told


def _length(kept_ms: int) -> str:
    if kept_ms == FOR_EVER_MS:
        return "forever"
    days = kept_ms / DAY_MS
    return f"for {days:g} {'day' if days == 1 else 'days'}"
