"""Opening the input for history, and closing it again before upstream is let in (DESIGN section 3).

Only the broker's setting changes: records that are there keep the times that they have.
"""

from collections.abc import Mapping
from contextlib import closing

from confluent_kafka.admin import AdminClient

from config.errors import Refused
from config.settings import Settings
from operations.sending.importing import progress as import_progress
from topics.cluster import FoundTopic, all_there, offsets
from topics.history import CREATE_TIME, is_open
from topics.incoming import Incoming
from topics.lag import First
from topics.names import TIMESTAMP_TYPE, Topics
from topics.topic_settings import alter


def open_for_history(client: AdminClient, settings: Settings, found: Mapping[str, FoundTopic]) -> list[str]:
    """Put the input on CreateTime and say so; nothing where it is open already.

    Raises Refused where live records are in it: history behind them could not keep its dates.
    """
    name = Topics.of(settings).transactions
    if is_open(found[name]):
        return []
    if live := [at for at, tail in tails(client, settings).items() if tail.by_broker]:
        raise Refused(
            f"topic {name} holds records with the broker's time (partition {live[0]}): history behind them could "
            "not keep its dates; load it into a new pipeline, under another WALLET_PREFIX"
        )
    alter(client, name, {TIMESTAMP_TYPE: CREATE_TIME})
    return [f"topic {name} is open for history: {TIMESTAMP_TYPE}={CREATE_TIME}"]


def open_to_upstream(
    client: AdminClient, settings: Settings, found: Mapping[str, FoundTopic], *, agreed: bool
) -> list[str]:
    """Put the input on LogAppendTime and say so; nothing where it is there already.

    Raises Refused while an import is unfinished, unless that was agreed to.
    """
    name = Topics.of(settings).transactions
    if not is_open(found[name]):
        return []
    progress = import_progress.read(settings)
    if progress and not progress.finished and not agreed:
        raise Refused(
            f"an import stands at line {progress.done} of {progress.lines}: run it again to finish it, or say --yes "
            "to leave out the rest for ever"
        )
    alter(client, name, {TIMESTAMP_TYPE: "LogAppendTime"})
    return [f"topic {name} is open to upstream: {TIMESTAMP_TYPE}=LogAppendTime"]


def tails(client: AdminClient, settings: Settings) -> dict[int, First]:
    """The newest committed record of each partition of the input that has one; open transactions are waited for."""
    name = Topics.of(settings).transactions
    logs = offsets(client, {name: settings.partitions})
    found: dict[int, First] = {}
    with closing(Incoming(settings, name)) as incoming:
        for (_, partition), end in all_there(client, logs).items():
            if newest := incoming.newest(partition, logs[name, partition].begin, end):
                found[partition] = newest
    return found
