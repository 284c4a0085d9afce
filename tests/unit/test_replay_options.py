"""What the command line of `wallet replay` takes, and what it refuses before it looks at any server."""

from datetime import timedelta

import pytest

from config.errors import ConfigurationError
from config.settings import Settings
from operations.replay.ranges import Range, duration
from operations.replay.run import How, run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("36h", timedelta(hours=36)),
        ("7d", timedelta(days=7)),
        ("1w2d3h4m5s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5)),
        ("0s", timedelta()),
    ],
)
def test_a_duration_is_read(text: str, expected: timedelta) -> None:
    assert duration("--back", text) == expected


@pytest.mark.parametrize("text", ["", "7", "7 d", "h7", "3h7d", "-1d", "1.5h", "7D", "99999999999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--back"):
        duration("--back", text)


@pytest.mark.parametrize(
    ("wanted", "how", "told"),
    [
        (Range(), How(resume=True, abandon=True), "use only one of --execute, --resume and --abandon"),
        (
            Range(from_beginning=True),
            How(execute=True, abandon=True),
            "use only one of --execute, --resume and --abandon",
        ),
        (Range(from_beginning=True), How(resume=True), "keeps its range"),
        (Range(partition=1), How(abandon=True), "keeps its range"),
    ],
)
def test_ways_that_contradict_each_other_are_refused(
    plain_settings: Settings, wanted: Range, how: How, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        run(plain_settings, ["ledger"], wanted, how, as_json=False)
