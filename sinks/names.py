"""The sinks by name, as on the command line and in `sink_positions`, and the topic that each one reads."""

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from topics.names import Topics

WritingName = Literal["ledger", "snapshots", "rejections"]
#: The sinks that write rows, each from the topic of its name; `all` means these.
WRITING: tuple[WritingName, ...] = get_args(WritingName)
#: Its rows bring balances up to date.
LEDGER = "ledger"
#: It moves tables, so you have to name it; it reads the snapshots, and writes no rows of them.
ARCHIVE = "archive"
SINKS = (*WRITING, ARCHIVE)


def topic_of(topics: "Topics", sink: str) -> str:
    """The topic that a sink reads."""
    topic: str = getattr(topics, "snapshots" if sink == ARCHIVE else sink)
    return topic
