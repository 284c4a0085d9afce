"""What an import is refused for before anything is sent: dates that would not be kept, or not for long."""

import time

from confluent_kafka.admin import AdminClient

from config.errors import Refused
from config.settings import Settings
from operations.sending.importing.lines import Line, iso
from operations.setup import history
from topics import retention
from topics.cluster import describe
from topics.history import is_open
from topics.names import Topics


def refuse_closed(client: AdminClient, settings: Settings) -> None:
    """Raise Refused where the broker would replace the dates."""
    name = Topics.of(settings).transactions
    if not is_open(describe(client, [name])[name]):
        raise Refused(
            f"topic {name} is not open for history, so dates would not be kept: run `wallet init --history` first"
        )


def refuse_early(
    client: AdminClient, settings: Settings, first: Line, recorded_ms: int, *, opening: bool
) -> None:
    """Hold the first line against what the input holds already, and against the topics' retention; raise Refused.

    `opening`: there are opening balances, and nothing may stand in front of those.
    """
    tails = history.tails(client, settings)
    if opening and tails:
        raise Refused("opening balances come first, and the input holds records already")
    newest_ms = max((tail.timestamp_ms for tail in tails.values()), default=0)
    if recorded_ms < newest_ms:
        raise Refused(
            f"{first} was recorded at {iso(recorded_ms)}, and the input holds records up to {iso(newest_ms)}: what "
            "is older than those could not keep its date; import in the order of time, or into a new pipeline"
        )
    topics = describe(client, Topics.of(settings).partitioned)
    if short := retention.too_short(settings, topics, time.time() * 1_000 - recorded_ms):
        raise Refused(
            f"topic {short} has retention.ms={retention.retention_ms(topics[short])} and Kafka would delete what was "
            f"recorded at {iso(recorded_ms)}: let it keep records for ever until history is loaded and read"
        )
