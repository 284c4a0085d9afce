"""Refuse an import, before anything is sent, if its dates would not be kept, or not for long."""

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
    """Raise Refused if the broker would replace the dates."""
    name = Topics.of(settings).transactions
    if not is_open(describe(client, [name])[name]):
        raise Refused(
            f"topic {name} is not open for history, so dates would not be kept: run `wallet init --history` first"
        )


def refuse_early(
    client: AdminClient, settings: Settings, first: Line, recorded_ms: int, *, opening: bool
) -> None:
    """Compare the first line with the records in the input and the topics' retention; raises Refused.

    `opening`: there are opening balances, and nothing may come before those.
    """
    tails = history.tails(client, settings)
    if opening and tails:
        raise Refused(
            "opening balances must come first, but the input already holds records: use a new pipeline"
        )
    newest_ms = max((tail.timestamp_ms for tail in tails.values()), default=0)
    if recorded_ms < newest_ms:
        raise Refused(
            f"{first} was recorded at {iso(recorded_ms)}, but the input holds records up to {iso(newest_ms)}: "
            "older ones could not keep their dates; import in order of time, or into a new pipeline"
        )
    topics = describe(client, Topics.of(settings).partitioned)
    if short := retention.too_short(settings, topics, time.time() * 1_000 - recorded_ms):
        raise Refused(
            f"topic {short} has retention.ms={retention.retention_ms(topics[short])} so Kafka would delete what was "
            f"recorded at {iso(recorded_ms)}: set unlimited retention until the history is loaded and read"
        )
