"""`wallet offsets`: where a consumer that is not ours would begin for a time."""

from datetime import UTC, datetime, timedelta

import pytest

from config.errors import ConfigurationError, Refused
from config.settings import Settings
from operations import offsets
from operations.offsets import Wanted
from schemas.records import from_ms
from tests.integration.pipelines import initialise_topics
from tests.integration.replays import entries_of, publish
from tests.ledgers import DAY_MS, NOVEMBER_MS, Ledger
from topics.names import Topics

pytestmark = pytest.mark.integration


def test_offsets_for_a_time_and_the_commands_that_set_them(
    kafka_only_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = kafka_only_settings
    initialise_topics(settings)
    topic = Topics.of(settings).ledger
    # Entry n of each partition is recorded n + 1 days after the first of November.
    for partition in (0, 1):
        publish(settings, topic, entries_of(Ledger(partition).post_many(15, step_ms=DAY_MS)))
    tenth = from_ms(NOVEMBER_MS + 10 * DAY_MS)
    for at, expected in (
        (tenth, [9, 9, 0, 0]),
        (tenth + timedelta(microseconds=1), [10, 10, 0, 0]),
        (from_ms(NOVEMBER_MS), [0, 0, 0, 0]),
        (tenth + timedelta(days=9), [15, 15, 0, 0]),
    ):
        named, targets, members = offsets.look(settings, Wanted("mine", "ledger", time=at))
        assert (named, members, [one.offset for one in targets]) == (topic, 0, expected)
    offsets.show(settings, Wanted("mine", "ledger", time=tenth), as_json=False)
    told = capsys.readouterr().out
    assert f"{topic},1,9\n" in told
    assert "--group mine --reset-offsets --from-file offsets.csv --execute" in told
    assert f"--reset-offsets --topic {topic} --to-datetime 2026-11-11T00:00:00.000Z --dry-run" in told
    for group, instead in (
        (settings.prefix, "wallet rebuild"),
        (settings.sink_group("ledger"), "wallet replay ledger"),
        (f"{settings.prefix}.verify", "own groups"),
    ):
        with pytest.raises(Refused, match=instead):
            offsets.look(settings, Wanted(group, "ledger", end=True))
    for wanted, why in (
        (Wanted("mine", "x", end=True), "there is no topic x"),
        (Wanted("mine", "ledger", time=datetime(2999, 1, 1, tzinfo=UTC)), "is in the future"),
        (Wanted("mine", "ledger"), "say where to"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            offsets.look(settings, wanted)
