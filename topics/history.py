"""Whether the input is open for history: on CreateTime, so that records keep their own dates.

`wallet init --history` opens it for `wallet import`; `wallet init --open` ends that and lets live records in. Until
then a live record would bring its sender's clock and pull every later entry of its partition to that time.
"""

from config.errors import Refused
from config.settings import Settings
from topics.cluster import FoundTopic, describe, quiet_admin
from topics.names import TIMESTAMP_TYPE, Topics

CREATE_TIME = "CreateTime"


def is_open(topic: FoundTopic) -> bool:
    """Whether records of this topic keep their own times."""
    return topic.config.get(TIMESTAMP_TYPE) == CREATE_TIME


def refuse_while_open(settings: Settings) -> None:
    """Raise Refused if live records must not be sent yet."""
    name = Topics.of(settings).transactions
    found = describe(quiet_admin(settings), [name])
    if name in found and is_open(found[name]):
        raise Refused(
            f"topic {name} is open for history: records would bring their sender's time; finish `wallet import` "
            "and run `wallet init --open` first"
        )
