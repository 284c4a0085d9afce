"""Open the input for history, and later to live records (DESIGN section 3).

Only the topic's setting changes: existing records keep their times.
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
    """Put the input on CreateTime; returns what changed, nothing if it was open already.

    Raises Refused if it holds live records: history after them could not keep its dates.
    """
    name = Topics.of(settings).transactions
    if is_open(found[name]):
        return []
    if live := [at for at, tail in tails(client, settings).items() if tail.by_broker]:
        raise Refused(
            f"topic {name} holds records with the broker's time (partition {live[0]}): history after them could "
            "not keep its dates; load it into a new pipeline with another WALLET_PREFIX"
        )
    alter(client, name, {TIMESTAMP_TYPE: CREATE_TIME})
    return [f"topic {name} is open for history: {TIMESTAMP_TYPE}={CREATE_TIME}"]


def open_to_upstream(
    client: AdminClient, settings: Settings, found: Mapping[str, FoundTopic], *, agreed: bool
) -> list[str]:
    """Put the input on LogAppendTime; returns what changed, nothing if it was there already.

    Raises Refused while an import is unfinished, unless `agreed`.
    """
    name = Topics.of(settings).transactions
    if not is_open(found[name]):
        return []
    progress = import_progress.read(settings)
    if progress and not progress.finished and not agreed:
        raise Refused(
            f"an import is unfinished at line {progress.done} of {progress.lines}: run it again to finish it, or add "
            "--yes to leave out the rest forever"
        )
    alter(client, name, {TIMESTAMP_TYPE: "LogAppendTime"})
    return [f"topic {name} is open to upstream: {TIMESTAMP_TYPE}=LogAppendTime"]


def tails(client: AdminClient, settings: Settings) -> dict[int, First]:
    """The newest committed record of each input partition that has one; waits for open transactions."""
    name = Topics.of(settings).transactions
    logs = offsets(client, {name: settings.partitions})
    found: dict[int, First] = {}
    with closing(Incoming(settings, name)) as incoming:
        for (_, partition), end in all_there(client, logs).items():
            if newest := incoming.newest(partition, logs[name, partition].begin, end):
                found[partition] = newest
    return found
