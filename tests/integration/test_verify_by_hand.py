"""`wallet verify` of pipelines that no worker wrote: the independent fold did, record by record.

So what is rare on a running one can be had: times that are days apart, records that name what never was.
"""

from dataclasses import asdict

import pytest
from confluent_kafka import Producer

from audit.report import Finding
from config.settings import Settings
from schemas.codec import HEADER_BYTES, NO_HASH, frame
from schemas.native.balances import encode_balance
from schemas.records import Balance
from schemas.versions import FIXED_IDS
from tests.integration.exactness import ANY_DETAIL, Published, expected
from tests.integration.pipelines import Upstream, as_record, initialise_topics, open_transaction, transaction
from tests.integration.verify_copies import commit, told, verified
from topics.clients import librdkafka
from topics.names import Topics

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
BEGIN_MS = 20_000 * DAY_MS


@pytest.fixture
def small_settings(kafka_only_settings: Settings) -> Settings:
    return kafka_only_settings.model_copy(update={"partitions": 1})


def write_outcomes(settings: Settings, *, more_balances: tuple[Published, ...] = ()) -> None:
    """Write what a worker would have written, and let its group say that all is decided."""
    names, wanted = Topics.of(settings), expected(settings)
    producer = Producer(librdkafka(settings))
    topics = {
        names.ledger: wanted.ledger[0],
        names.rejections: [with_detail(record) for record in wanted.rejections[0]],
        names.snapshots: wanted.snapshots[0],
        names.balances: [*wanted.balances.values(), *more_balances],
    }
    for topic, records in topics.items():
        for key, value, at_ms, headers in records:
            producer.produce(topic, value, key, 0, timestamp=at_ms, headers=[*headers])
    assert producer.flush(60) == 0
    commit(settings)


def with_detail(duplicate: Published) -> Published:
    """The oracle does not tell a rejection's words for people; those of a duplicate name its id."""
    transaction_id = (duplicate.value or b"")[HEADER_BYTES + 1 :][:36]
    told = b"transaction %b was posted before" % transaction_id
    return duplicate._replace(
        headers=tuple((name, told if value == ANY_DETAIL else value) for name, value in duplicate.headers)
    )


def send_over_days(settings: Settings) -> None:
    """One id on days 0, 1 and 4, another on days 0 and 3, a third once."""
    often, twice, once = transaction(1, "a"), transaction(2, "a"), transaction(3, "a")
    sent = [(often, 0), (twice, 0), (often, 1), (once, 1), (twice, 3), (often, 4)]
    times = iter([BEGIN_MS + day * DAY_MS for _, day in sent])
    Upstream(settings).send([as_record(one, 1) for one, _ in sent], times)


def test_ids_that_came_again_when_they_were_forgotten_are_found_and_no_difference(
    small_settings: Settings,
) -> None:
    settings = small_settings.model_copy(update={"id_window_days": 2})
    initialise_topics(settings, create_time=True)
    send_over_days(settings)
    write_outcomes(settings)
    report = verified(settings, postgres=False)
    assert told(report) == []
    place = "wallet a sequence {}, partition 0 source offset {}"
    place += ": the id was posted before at 2024-10-04T00:00:00.000000Z"
    assert sorted(
        (one.kind, one.subject, one.detail.split(", longer ago than the 2 days")[0])
        for one in report.findings.shown
    ) == [
        ("posted again", transaction(1, "a").transaction_id, place.format(5, 5)),
        ("posted again", transaction(2, "a").transaction_id, place.format(4, 4)),
    ]
    shortened = verified(settings, postgres=False, shown=1)
    assert (shortened.findings.total, len(shortened.findings.shown)) == (2, 1)


def test_a_pipeline_without_a_window_has_no_such_finding(small_settings: Settings) -> None:
    initialise_topics(small_settings, create_time=True)
    send_over_days(small_settings)
    write_outcomes(small_settings)
    report = verified(small_settings, postgres=False)
    assert report.clean
    assert report.findings.shown == list[Finding]()


def test_a_balance_that_names_a_source_which_entered_nothing_is_extra(small_settings: Settings) -> None:
    initialise_topics(small_settings)
    Upstream(small_settings).send([as_record(transaction(1, "a"), 1)])
    # What an upstream transaction leaves when it is aborted: offsets that no consumer of ours sees.
    aborted = as_record(transaction(2, "a"), 1)
    with open_transaction(small_settings, Topics.of(small_settings).transactions, aborted):
        pass

    forged = Balance("a", "EUR", 10**9, 2, BEGIN_MS, 0, 1, NO_HASH)
    record = Published(b"a", frame(FIXED_IDS.balance) + encode_balance(forged), BEGIN_MS)
    write_outcomes(small_settings, more_balances=(record,))
    report = verified(small_settings, postgres=False)
    assert told(report) == [("balances", "extra")]
    assert asdict(report.differences.shown[0])["source_offset"] == 1
