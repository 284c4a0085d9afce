"""Opening the input for history and closing it; how long topics keep their records."""

import pytest

from config.errors import NotReachable, Refused
from config.settings import Settings
from operations.setup import init
from tests.integration.pipelines import Upstream, as_record, open_transaction, transaction
from topics.cluster import describe, quiet_admin
from topics.history import CREATE_TIME
from topics.names import DAY_MS, TIMESTAMP_TYPE, Topics

pytestmark = pytest.mark.integration


def setting(settings: Settings, topic: str, name: str) -> str:
    return describe(quiet_admin(settings), [topic])[topic].config[name]


def test_an_input_stays_open_for_history_until_it_is_opened_to_upstream(settings: Settings) -> None:
    topic = Topics.of(settings).transactions
    still_open = f"topic {topic} is open for history: run `wallet init --open` before sending live records"
    now_open = f"topic {topic} is open for history: {TIMESTAMP_TYPE}={CREATE_TIME}"
    closed = f"topic {topic} is open to upstream: {TIMESTAMP_TYPE}=LogAppendTime"

    assert init.initialise(settings, "history").warnings == (still_open,)
    for times in ("as they are", "history"):
        again = init.initialise(settings, times)
        assert (again.created, again.altered, again.warnings) == ((), (), (still_open,))
    assert setting(settings, topic, TIMESTAMP_TYPE) == CREATE_TIME

    report = init.initialise(settings, "upstream")
    assert (report.altered, report.warnings) == ((closed,), ())
    for times in ("upstream", "as they are"):
        again = init.initialise(settings, times)  # type: ignore[arg-type] # both are Times
        assert (again.altered, again.warnings) == ((), ())

    # Nothing live came: back again. Then something did.
    assert init.initialise(settings, "history").altered == (now_open,)
    init.initialise(settings, "upstream")
    Upstream(settings).send([as_record(transaction(1, "alice"))])
    with pytest.raises(Refused, match=r"holds records with the broker's time \(partition 1\)"):
        init.initialise(settings, "history")
    assert setting(settings, topic, TIMESTAMP_TYPE) == "LogAppendTime"


def test_a_live_record_that_is_not_committed_yet_is_waited_for(settings: Settings) -> None:
    topic = Topics.of(settings).transactions
    init.initialise(settings)
    hasty = settings.model_copy(update={"stall_s": 0.5, "transaction_timeout_s": 0.5})
    with (
        open_transaction(settings, topic, as_record(transaction(1, "alice"))),
        pytest.raises(NotReachable, match="a transaction is open"),
    ):
        init.initialise(hasty, "history")
    assert setting(settings, topic, TIMESTAMP_TYPE) == "LogAppendTime"
    # What was rolled back is no live record.
    init.initialise(settings, "history")
    assert setting(settings, topic, TIMESTAMP_TYPE) == CREATE_TIME


def test_retention_is_applied_and_a_shorter_one_needs_consent(settings: Settings) -> None:
    names = Topics.of(settings)

    def keeping(**days: int) -> Settings:
        return settings.model_copy(update={f"retention_{name}_days": count for name, count in days.items()})

    made = init.initialise(keeping(transactions=30))
    assert [warning.split(":")[0] for warning in made.warnings] == [
        f"topic {names.transactions} has retention.ms={30 * DAY_MS}"
    ]
    assert setting(settings, names.ledger, "retention.ms") == "-1"

    for shorter, told in (
        (
            keeping(transactions=29),
            f"topic {names.transactions} keeps records for 29 days, before: for 30 days; ",
        ),
        (
            keeping(ledger=1),
            f"topic {names.ledger} keeps records for 1 day, before: forever; exact duplicates",
        ),
    ):
        with pytest.raises(Refused, match=f"a shorter retention permanently deletes older records: {told}"):
            init.initialise(shorter)
    assert setting(settings, names.transactions, "retention.ms") == str(30 * DAY_MS)
    assert setting(settings, names.ledger, "retention.ms") == "-1"

    agreed = init.initialise(keeping(snapshots=7, rejections=8), agreed=True)
    assert [change.split(" keeps")[0] for change in agreed.altered] == [
        f"topic {names.snapshots}",
        f"topic {names.rejections}",
    ]
    longer = init.initialise(keeping(transactions=31, snapshots=0))
    assert longer.altered == (
        f"topic {names.transactions} keeps records for 31 days, before: for 30 days",
        f"topic {names.snapshots} keeps records forever, before: for 7 days",
    )
    assert setting(settings, names.snapshots, "retention.ms") == "-1"
    assert init.initialise(settings).altered == (), "a setting that is none leaves the topic as it is"
    assert setting(settings, names.rejections, "retention.ms") == str(8 * DAY_MS)
