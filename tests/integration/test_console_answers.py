"""The console's API and pages against a real pipeline: what it says is what topics and tables hold."""

import hashlib
import http.client
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from pydantic import BaseModel

from console import models
from console.encoding import entry_of_record
from console.finding import Finder
from console.live import entry_in
from console.outcomes import Posted, Refused
from local.stack import Addresses
from operations.sending.generator import Mix, records
from schemas.codec import HEADER_BYTES, decode_entry
from schemas.partitioner import partition_of
from tests.integration.consoles import JSON, TOKEN, Console, Scene, of_base64, scene_after_mixed_input
from tests.integration.pipelines import Upstream
from tests.integration.test_watchdog import address_of, ask
from tests.integration.test_watchdog import value as value_of
from tests.integration.workers import PATIENCE_S, wait_until
from tests.reading import read_all
from topics.names import Topics

pytestmark = pytest.mark.integration

HOSTILE = [
    "a/b",
    "..",
    ".",
    "<script>alert(1)</script>",
    "\U0001f4b6" * 128,
    "%00",
    "%2F",
    "it's'; DROP TABLE wallets; --",
    'x" onmouseover="y',
    "q?a=b&c#d+e f",
    "\u202eright to left",
    "{{ 7 * 7 }}",
    "línea\nnueva",
]


@pytest.fixture(scope="module")
def place(addresses: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A pipeline that went through mixed input of every kind."""
    with scene_after_mixed_input(addresses, tmp_path_factory.mktemp("console")) as found:
        yield found


@pytest.fixture
def database(place: Scene) -> Iterator[psycopg.Connection[Any]]:
    """Its database."""
    with psycopg.connect(place.settings.postgres.get_secret_value(), autocommit=True) as connection:
        yield connection


def transaction(wallet_id: str, amount: object = "1250", **changes: object) -> dict[str, object]:
    """A credit under an id of its own, as a program sends it."""
    return {
        "transaction_id": str(uuid.uuid4()),
        "wallet_id": wallet_id,
        "type": "CREDIT",
        "amount": amount,
        "currency": "EUR",
        "occurred_at": "2026-11-22T09:00:00Z",
    } | changes


def segment(text: str) -> str:
    """An id as one segment of a path, its dots too: clients take `..` for a step up."""
    return quote(text, safe="").replace(".", "%2E")


def checked(model: type[BaseModel], answer: dict[str, Any]) -> dict[str, Any]:
    """An answer that has the shape of the OpenAPI document, to the name."""
    model.model_validate(answer)
    return answer


# -- the way in


def test_a_transaction_is_answered_with_the_entry_that_the_ledger_holds(place: Scene) -> None:
    answer = place.console.post(transaction("answered", metadata={"b": "2", "a": "1"}))
    assert answer.status == 201, answer.body
    found = checked(models.Outcome, answer.json)
    partition, offset = map(int, found["source"].split(":"))
    assert partition == partition_of(b"answered", 4)
    entries = [
        entry
        for message in read_all(place.settings, Topics.of(place.settings).ledger, 4)
        for entry in [decode_entry((message.value() or b"")[HEADER_BYTES:])]
        if (entry.source_partition, entry.source_offset) == (partition, offset)
    ]
    assert [entry_of_record(entry) for entry in entries] == [found["entry"]]
    assert place.console.get(f"/outcomes/{partition}/{offset}") == found


def test_the_shortcut_and_the_framework_answer_alike(place: Scene) -> None:
    headers = JSON | {"Authorization": f"Bearer {TOKEN}"}
    answers = [
        place.console.ask(f"/api/v1/transactions?wait_s=30{more}", "POST", transaction(name), headers)
        for name, more in (("shortcut", ""), ("framework", "&more=1"))
    ]
    assert [answer.status for answer in answers] == [201, 201]
    assert {tuple(answer.headers) for answer in answers} == {tuple(answers[0].headers)}
    assert {tuple(answer.json["entry"]) for answer in answers} == {tuple(answers[0].json["entry"])}
    posted = answers[0].json["source"].replace(":", "/")
    never = f"{posted.split('/')[0]}/1000000000"
    for path in (posted, never, "2147483648/0", "7/0", "0/9223372036854775808"):
        asked = [place.console.ask(f"/api/v1/outcomes/{path}{more}") for more in ("", "?more=1")]
        seen = {(one.status, one.body, tuple(one.headers)) for one in asked}
        assert len(seen) == 1, (path, [(one.status, one.body) for one in asked])
    for wait_s in ("31", "nan", "-1", "x"):
        refused = place.console.post(transaction("refused"), wait_s=wait_s)
        assert (refused.status, refused.json["detail"].partition(":")[0]) == (400, "wait_s"), wait_s
    assert place.console.ask("/api/v1/transactions", "DELETE", headers=headers).status == 405


def test_each_outcome_has_its_status(place: Scene) -> None:
    first = transaction("statuses")
    posted = place.console.post(first)
    again = place.console.post(first)
    other = place.console.post(first | {"amount": "1"})
    foreign = place.console.post(transaction("statuses", currency="USD"))
    poor = place.console.post(transaction("statuses", amount=10**12, type="DEBIT"))
    at_once = place.console.post(transaction("statuses"), wait_s=0)
    assert [one.status for one in (posted, again, other, foreign, poor, at_once)] == [
        201,
        200,
        409,
        422,
        422,
        202,
    ]
    assert again.json["reason"] == "DUPLICATE"
    assert again.json["entry"] == posted.json["entry"]
    assert again.json["source"] != posted.json["source"]
    for answer, reason in ((other, "CONFLICT"), (foreign, "CURRENCY_MISMATCH"), (poor, "INSUFFICIENT_FUNDS")):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["reason"] == reason
        assert re.fullmatch(r"\d+:\d+", answer.json["source"])
    checked(models.Pending, at_once.json)
    assert at_once.headers["location"] == "/api/v1/outcomes/" + at_once.json["source"].replace(":", "/")
    later = place.console.ask(at_once.headers["location"] + "?wait_s=30")
    assert (later.status, later.json["outcome"]) == (200, "posted")


@pytest.mark.full
def test_a_duplicate_is_answered_with_the_first_entry_by_a_console_that_did_not_see_it(place: Scene) -> None:
    first = transaction("seen-elsewhere")
    posted = place.console.post(first)
    wait_until(
        lambda: place.console.ask("/api/v1/wallets/seen-elsewhere").status == 200, "it is in the tables"
    )
    Upstream(place.settings).send(
        records(2_500, Mix(wallets=500, seed=5, partitions=4, bad=0.0, duplicates=0.0))
    )
    place.wait_until_written()
    other = place.another()
    wait_until(lambda: other.ask("/api/v1/outcomes/0/0").status == 200, "it follows")
    again = other.post(first)
    assert (again.status, again.json["entry"]) == (200, posted.json["entry"])


@pytest.mark.full
def test_many_wait_at_once_and_each_has_its_own_answer(place: Scene) -> None:
    answers: dict[str, Any] = {}

    def one(number: int) -> None:
        answers[f"many-{number}"] = place.console.post(transaction(f"many-{number}", str(number + 1)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: (answer.status, answer.json["entry"]["wallet_id"]) for name, answer in answers.items()} == {
        f"many-{number}": (201, f"many-{number}") for number in range(150)
    }
    assert all(answer.json["entry"]["balance"] == str(int(name[5:]) + 1) for name, answer in answers.items())


@pytest.mark.full
@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 400, "empty|not a JSON object"),
        (b"[]", 400, "not a JSON object"),
        (b"nonsense", 400, "not a JSON object"),
        (b"\xff{}", 400, "UTF-8"),
        (b'{"a": 1}', 400, "missing"),
        (b"{" * 100_000, 400, "not JSON"),
        (json.dumps(transaction("w", "1.5")).encode(), 400, "minor units"),
        (json.dumps(transaction("w", "-5")).encode(), 400, "sign"),
        (json.dumps(transaction("w", 2**63)).encode(), 400, "amount"),
        (json.dumps(transaction("w", occurred_at="yesterday")).encode(), 400, "occurred_at"),
        (json.dumps(transaction("w" * 129)).encode(), 400, "wallet_id"),
        (json.dumps(transaction("a\0b")).encode(), 400, "U.0000|NUL"),
        (json.dumps(transaction("w", metadata={"x": 1})).encode(), 400, "metadata"),
        (json.dumps(transaction("w", metadata={"x": "y" * 300_000})).encode(), 413, "bytes"),
        (b" " * 10_000_000, 413, "bytes"),
    ],
)
def test_what_is_no_transaction_is_refused_with_a_sentence_and_not_sent(
    place: Scene, body: bytes, status: int, told: str
) -> None:
    answer = place.console.ask(
        "/api/v1/transactions", "POST", body, JSON | {"Authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status == status, answer.body
    assert re.search(told, answer.json["detail"]), answer.json
    assert "source" not in answer.json


def test_only_who_has_the_token_writes_and_only_where_writes_are_on(place: Scene) -> None:
    one = transaction("unwritten")
    reader = place.another(console_writes=False)
    assert reader.post(one).status == 403
    for headers in (
        {},
        {"Authorization": "Bearer wrong-token-000000"},
        {"Authorization": "Bearer " + TOKEN[:-1]},
        {"Authorization": f"Basic {TOKEN}"},
    ):
        answer = place.console.ask("/api/v1/transactions", "POST", one, JSON | headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    form = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {TOKEN}"}
    assert place.console.ask("/api/v1/transactions", "POST", one, form).status == 415
    assert place.console.ask("/api/v1/wallets/unwritten").status == 404


# -- reading


@pytest.mark.full
@pytest.mark.parametrize("wallet_id", HOSTILE)
def test_any_id_that_a_wallet_may_have_is_one_segment_of_a_path_and_harmless_on_a_page(
    place: Scene, wallet_id: str
) -> None:
    evil = "<img src=x onerror=alert(1)>"
    posted = place.console.post(transaction(wallet_id, metadata={evil: evil}, group_id=evil))
    assert posted.status in {200, 201}, posted.body
    source = posted.json["source"]
    found = checked(
        models.Balance, place.console.get(f"/wallets/{segment(wallet_id)}/balance?after={source}&wait_s=30")
    )
    assert (found["wallet_id"], found["balance"]) == (wallet_id, "1250")
    statement = place.console.get(f"/wallets/{segment(wallet_id)}/statement")
    assert statement["entries"] == [posted.json["entry"]]
    page = place.console.ask(f"/wallets/{segment(wallet_id)}")
    assert page.status == 200
    text = page.body.decode()
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert 'onmouseover="y' not in text
    prefix = quote(wallet_id, safe="")
    assert wallet_id in [
        one["wallet_id"] for one in place.console.get(f"/wallets?prefix={prefix}")["wallets"]
    ]
    group = place.console.ask(f"/groups/{segment(evil)}")
    assert group.status == 200
    assert b"<img src=x" not in group.body


@pytest.mark.full
@pytest.mark.parametrize("path", ["", "%00", "a%00b", "%FF", "x" * 129, "nobody", "nobody/", "%ED%A0%80"])
def test_an_id_that_no_wallet_has_is_not_found(place: Scene, path: str) -> None:
    for what in ("", "/balance", "/statement", "/proof"):
        answer = place.console.ask(f"/api/v1/wallets/{path}{what}")
        assert (answer.status, answer.json["status"]) == (404, 404)
    assert place.console.ask(f"/wallets/{path}").status == 404


@pytest.mark.full
@pytest.mark.parametrize(
    "path",
    [
        "/wallets?limit=0",
        "/wallets?limit=1001",
        "/wallets?prefix=%FF",
        "/reports/daily?wallet_id=%ED%A0%80",
        "/wallets?limit=x",
        "/wallets?limit=1_0",
        "/wallets?limit=%205",
        "/wallets?limit=%2B5",
        "/wallets?limit=5.0",
        "/wallets?limit=%D9%A3",  # an Arabic 3
        "/wallets?prefix=" + "x" * 129,
        "/wallets?prefix=%00",
        "/wallets/wallet-000000/balance?at=yesterday",
        "/wallets/wallet-000000/balance?at=2026-11-22T10:00:00",
        "/wallets/wallet-000000/balance?at=0001-01-01T00:00:00%2B14:00",
        "/wallets/wallet-000000/balance?at=2026-11-22T10:00:00Z&after=0:1",
        "/wallets/wallet-000000/balance?after=0",
        "/wallets/wallet-000000/balance?after=0:-1",
        "/wallets/wallet-000000/balance?after=0:0&wait_s=31",
        "/wallets/wallet-000000/balance?after=0:0&wait_s=nan",
        "/wallets/wallet-000000/balance?after=0:0&wait_s=1_0",
        "/wallets/wallet-000000/balance?after=0:0&wait_s=%2B1",
        "/outcomes/0/0?wait_s=%D9%A3",
        "/wallets/wallet-000000/statement?after_sequence=-1",
        "/wallets/wallet-000000/statement?after_sequence=9999999999999999999",
        "/rejections?after=x",
        "/rejections?reason=BECAUSE",
        "/rejections?after=1:" + "9" * 40,
        "/reports/daily?wallet_id=wallet-000000&from=2020-01-01&to=2026-01-01",
        "/reports/daily?wallet_id=wallet-000000&to=0001-01-02",
        "/reports/daily",
        "/reports/trial-balance?at=1",
    ],
)
def test_a_wrong_parameter_is_told_in_a_sentence(place: Scene, path: str) -> None:
    answer = place.console.ask(f"/api/v1{path}")
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json"), answer.body
    checked(models.ProblemFields, answer.json)


def test_balances_are_those_of_the_sql_functions(place: Scene, database: psycopg.Connection[Any]) -> None:
    for (wallet_id,) in database.execute(
        "SELECT wallet_id FROM wallets ORDER BY wallet_id LIMIT 20"
    ).fetchall():
        name = segment(wallet_id)
        times = database.execute(
            "SELECT recorded_at, occurred_at FROM transactions WHERE wallet_id = %s ORDER BY sequence LIMIT 3",
            [wallet_id],
        ).fetchall()
        now = checked(models.Balance, place.console.get(f"/wallets/{name}/balance"))
        wallet = checked(models.Wallet, place.console.get(f"/wallets/{name}"))
        assert (
            now["balance"]
            == wallet["balance"]
            == str(database.execute("SELECT wallet_balance(%s)", [wallet_id]).fetchone()[0])  # type: ignore[index]
        )
        assert now["source"] == wallet["source"]
        for recorded_at, occurred_at in times:
            at = recorded_at.isoformat().replace("+", "%2B")
            effective = occurred_at.isoformat().replace("+", "%2B")
            wanted = database.execute(
                "SELECT wallet_balance_at(%s, %s), wallet_balance_effective_at(%s, %s)",
                [wallet_id, recorded_at, wallet_id, occurred_at],
            ).fetchone()
            assert wanted is not None
            assert place.console.get(f"/wallets/{name}/balance?at={at}")["balance"] == str(wanted[0])
            assert place.console.get(f"/wallets/{name}/balance?effective_at={effective}")["balance"] == str(
                wanted[1]
            )


def test_a_statement_read_page_by_page_is_the_whole_ledger_of_a_wallet(
    place: Scene, database: psycopg.Connection[Any]
) -> None:
    (wallet_id,) = database.execute(
        "SELECT wallet_id FROM transactions GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    ).fetchone() or ("",)
    wanted = database.execute(
        "SELECT sequence, balance, encode(hash, 'hex') FROM wallet_statement(%s)", [wallet_id]
    ).fetchall()
    query, shown, closing = "limit=2", list[tuple[int, int, str]](), "0"
    while query:
        page = checked(
            models.Statement, place.console.get(f"/wallets/{segment(wallet_id)}/statement?{query}")
        )
        assert page["opening"] == closing
        closing, query = page["closing"], page["next"]
        shown += [(int(one["sequence"]), int(one["balance"]), one["hash"]) for one in page["entries"]]
    assert shown == wanted
    middle = database.execute(
        "SELECT recorded_at FROM transactions WHERE wallet_id = %s AND sequence = 3", [wallet_id]
    ).fetchone()
    assert middle is not None
    at = middle[0].isoformat().replace("+", "%2B")
    before = place.console.get(f"/wallets/{segment(wallet_id)}/statement?to={at}&limit=1000")
    after = place.console.get(f"/wallets/{segment(wallet_id)}/statement?from={at}&limit=1")
    assert before["closing"] == after["opening"]
    nothing = place.console.get(f"/wallets/{segment(wallet_id)}/statement?from=2100-01-01T00:00:00Z")
    assert nothing["opening"] == nothing["closing"] == closing


@pytest.mark.full
def test_a_proof_proves(place: Scene) -> None:
    proof = checked(models.Proof, place.console.get("/wallets/wallet-000000/proof"))
    assert (proof["from_sequence"], proof["previous_hash"]) == ("1", "00" * 32)
    previous = bytes.fromhex(proof["previous_hash"])
    for one in proof["entries"]:
        previous = hashlib.sha256(previous + (of_base64(one["entry"]) or b"")).digest()
        assert previous.hex() == one["hash"]
    assert previous.hex() == place.console.get("/wallets/wallet-000000")["hash"]
    part = place.console.get("/wallets/wallet-000000/proof?after_sequence=2&sequence=4")
    assert [one["sequence"] for one in part["entries"]] == ["3", "4"]
    assert part["previous_hash"] == proof["entries"][1]["hash"]
    assert place.console.ask("/api/v1/wallets/wallet-000000/proof?sequence=99999").status == 404


@pytest.mark.full
def test_reports_and_groups_are_what_the_tables_add_up_to(
    place: Scene, database: psycopg.Connection[Any]
) -> None:
    place.wait_until_written()
    trial = checked(models.TrialBalance, place.console.get("/reports/trial-balance"))
    assert trial["currencies"] == {
        currency: {"credits": str(credit), "debits": str(debit), "balance": str(credit - debit), "wallets": str(some)}
        for currency, credit, debit, some in database.execute(
            """
            SELECT currency, coalesce(sum(amount) FILTER (WHERE type = 'CREDIT'), 0)::numeric(100, 0),
                coalesce(sum(amount) FILTER (WHERE type = 'DEBIT'), 0)::numeric(100, 0), count(DISTINCT wallet_id)
            FROM wallet_entries GROUP BY currency
            """
        )
    }  # fmt: skip
    at_once = place.console.get("/reports/trial-balance?at=2001-11-22")
    assert (at_once["at"], at_once["currencies"]) == ("2001-11-22T00:00:00.000000Z", {})
    assert checked(models.TrialBalance, place.console.get("/reports/trial-balance?at="))["at"] is None
    groups = database.execute(
        "SELECT group_id, count(*) FROM wallet_entries WHERE group_id IS NOT NULL GROUP BY 1 LIMIT 20"
    ).fetchall()
    assert groups
    for group_id, legs in groups:
        group = checked(models.Group, place.console.get(f"/groups/{segment(group_id)}"))
        sums: dict[str, int] = {}
        for leg in group["legs"]:
            amount = int(leg["amount"]) * (1 if leg["type"] == "CREDIT" else -1)
            sums[leg["currency"]] = sums.get(leg["currency"], 0) + amount
        assert len(group["legs"]) == legs
        assert group["sums"] == {currency: str(total) for currency, total in sorted(sums.items())}
        assert group["complete"] == (not any(sums.values()))
    listed, query = list[tuple[str, str, str]](), "limit=2"
    while query:
        page = checked(models.OpenGroups, place.console.get(f"/reports/open-groups?{query}"))
        listed += [(one["group_id"], one["currency"], one["sum"]) for one in page["groups"]]
        query = page["next"]
    assert listed == [
        (group_id, currency, str(total))
        for group_id, currency, total in database.execute(
            "SELECT group_id, currency, balance FROM wallet_open_groups()"
        ).fetchall()
    ]
    assert len(listed) > 2
    for wrong in ("x", "2026-11-28", "2026-11-28T00:00:00Z/EUR", "/EUR/x"):
        assert place.console.ask(f"/api/v1/reports/open-groups?after={wrong}").status == 400
    days = checked(models.Daily, place.console.get("/reports/daily?wallet_id=wallet-000000"))["days"]
    assert len(days) == 30
    assert days[-1]["closing"] == place.console.get("/wallets/wallet-000000")["balance"]
    assert sum(int(day["entries"]) for day in days) == int(
        place.console.get("/wallets/wallet-000000")["sequence"]
    )
    assert checked(models.Seals, place.console.get("/seals"))["seals"] == []
    checked(models.Pipeline, place.console.get("/pipeline"))


@pytest.mark.full
def test_rejections_are_all_there_page_by_page_with_their_bytes(
    place: Scene, database: psycopg.Connection[Any]
) -> None:
    place.wait_until_written()
    query, listed = "limit=50", list[str]()
    while query:
        page = checked(models.Rejections, place.console.get(f"/rejections?{query}"))
        listed += [one["source"] for one in page["rejections"]]
        query = page["next"]
    rows = database.execute(
        """
        SELECT DISTINCT ON (reason) reason, source_partition, source_offset, key, value FROM rejections
        """
    ).fetchall()
    assert listed == [
        f"{partition}:{offset}"
        for partition, offset in database.execute(
            "SELECT source_partition, source_offset FROM rejections ORDER BY 1, 2"
        ).fetchall()
    ]
    assert len(rows) >= 6
    for reason, partition, offset, key, value in rows:
        found = checked(models.Rejection, place.console.get(f"/rejections/{partition}/{offset}"))
        assert (found["reason"], of_base64(found["key"]), of_base64(found["value"])) == (reason, key, value)
        assert (found["decoded"] is None) == (found["not_decoded"] is not None)
        if reason in {"DUPLICATE", "CONFLICT", "CURRENCY_MISMATCH"}:
            assert found["decoded"]["wallet_id"] == key.decode()
        outcome = checked(models.Outcome, place.console.get(f"/outcomes/{partition}/{offset}"))
        assert (outcome["outcome"], outcome["reason"]) == ("rejected", reason)
        assert place.console.ask(f"/rejections/{partition}/{offset}").status == 200
        only = place.console.get(f"/rejections?reason={reason.lower()}&limit=1000")["rejections"]
        assert {one["reason"] for one in only} == {reason}
    assert place.console.ask("/api/v1/rejections/0/999999999").status == 404


# -- positions


@pytest.mark.full
def test_every_offset_of_the_input_has_the_outcome_that_the_topics_say(
    place: Scene, database: psycopg.Connection[Any]
) -> None:
    place.wait_until_written()
    posted = database.execute(
        "SELECT source_partition, source_offset, encode(hash, 'hex') FROM transactions ORDER BY random() LIMIT 60"
    ).fetchall()
    for partition, offset, chained in posted:
        assert place.console.get(f"/outcomes/{partition}/{offset}")["entry"]["hash"] == chained
    # As a console finds them that has forgotten: by halves, in the topics.
    finder = Finder(place.settings)
    for partition, offset, chained in posted[:8]:
        old = finder.outcome_of((partition, offset))
        assert isinstance(old, Posted)
        assert entry_in(old).hash.hex() == chained
    for partition, offset, reason in database.execute(
        "SELECT source_partition, source_offset, reason FROM rejections ORDER BY random() LIMIT 8"
    ).fetchall():
        old = finder.outcome_of((partition, offset))
        assert isinstance(old, Refused)
        assert old.reason == reason


@pytest.mark.full
def test_an_offset_that_holds_no_record_is_not_found(place: Scene) -> None:
    for path in (
        "/outcomes/0/99999999",
        "/outcomes/4/0",
        "/outcomes/x/0",
        "/outcomes/0/-1",
        "/outcomes/0/1e3",
    ):
        assert place.console.ask(f"/api/v1{path}").status == 404, path
    assert place.console.ask("/api/v1/outcomes/0/99999999?wait_s=0.5").status == 404


@pytest.mark.full
def test_a_balance_after_a_position_that_does_not_come_is_told_with_how_far_the_tables_are(
    place: Scene,
) -> None:
    answer = place.console.ask("/api/v1/wallets/wallet-000000/balance?after=0:99999999&wait_s=0.3")
    assert answer.status == 504
    models.CompleteUntil.model_validate(answer.json["complete_until"])
    assert place.console.ask("/api/v1/wallets/wallet-000000/balance?after=7:1").status == 404


def test_what_an_answer_says_to_be_complete_is_in_the_tables(
    place: Scene, database: psycopg.Connection[Any]
) -> None:
    """No record of the input is a mark of a transaction here, so an offset is how many records lie below it."""
    stop, failures, deadline = threading.Event(), list[str](), time.monotonic() + PATIENCE_S

    def send() -> None:
        upstream = Upstream(place.settings)
        stream = records(100_000, Mix(wallets=100, bad=0.1, seed=77, partitions=4))
        while not stop.is_set():
            some = [one for _, one in zip(range(60), stream, strict=False)]
            if not some:
                return
            upstream.send(some)
            stop.wait(0.05)

    thread = threading.Thread(target=send)
    thread.start()
    moved = set[tuple[tuple[str, str], ...]]()
    try:
        while len(moved) < 12 and time.monotonic() < deadline:
            until = place.console.get("/seals")["complete_until"]["positions"]
            moved.add(tuple(until.items()))
            for partition, below in until.items():
                count = database.execute(
                    """
                    SELECT (SELECT count(*) FROM transactions WHERE source_partition = %(p)s AND source_offset < %(o)s)
                        + (SELECT count(*) FROM rejections WHERE source_partition = %(p)s AND source_offset < %(o)s)
                    """,
                    {"p": int(partition), "o": int(below)},
                ).fetchone()
                if count != (int(below),):
                    failures.append(f"{partition}: {below} said, {count} there")
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert len(moved) == 12
    place.wait_until_written()
    ends = {
        str(one["partition"]): one["end"]
        for one in place.console.get("/pipeline")["places"]
        if one["reader"] == "worker"
    }
    wait_until(
        lambda: place.console.get("/seals")["complete_until"]["positions"] == ends, "all of it is there"
    )


# -- live


class Events:
    """A client of a feed."""

    def __init__(
        self, place: Scene, wallet_id: str, last: str | None = None, console: Console | None = None
    ) -> None:
        asked = console or place.console
        self._connection = http.client.HTTPConnection(asked.host, asked.port, timeout=PATIENCE_S)
        self._connection.request(
            "GET",
            f"/api/v1/wallets/{segment(wallet_id)}/events",
            headers={"Last-Event-ID": last} if last else {},
        )
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        assert (self._answer.getheader("content-type") or "").startswith("text/event-stream")

    def take(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """The next events: id and entry."""
        found: list[tuple[str, dict[str, Any]]] = []
        name = at = ""
        while len(found) < count:
            line = self._answer.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("id: "):
                at = line[4:]
            elif line.startswith("data: "):
                assert name == "entry"
                found.append((at, json.loads(line[6:])))
        return found

    def close(self) -> None:
        """Go away."""
        self._connection.close()


def test_a_feed_brings_each_entry_once_and_goes_on_where_a_client_was(place: Scene) -> None:
    first = place.console.post(transaction("fed")).json["entry"]
    live = Events(place, "fed", first["source"])
    sources = [place.console.post(transaction("fed", str(number))).json["source"] for number in range(1, 6)]
    seen = live.take(5)
    live.close()
    assert [at for at, _ in seen] == sources
    assert [entry["sequence"] for _, entry in seen] == ["2", "3", "4", "5", "6"]
    for entry in (entry for _, entry in seen):
        checked(models.Entry, entry)
    for missed in range(5):
        again = Events(place, "fed", seen[missed][0])
        if missed == 4:
            sources.append(place.console.post(transaction("fed", "99")).json["source"])
        assert [at for at, _ in again.take(len(sources) - missed - 1)] == sources[missed + 1 :]
        again.close()
    partition = (partition_of(b"fed", 4) + 1) % 4
    wrong = place.console.ask("/api/v1/wallets/fed/events", headers={"Last-Event-ID": f"{partition}:0"})
    assert wrong.status == 400
    home = partition_of(b"fed", 4)
    ahead = place.console.ask("/api/v1/wallets/fed/events", headers={"Last-Event-ID": f"{home}:{2**63 - 1}"})
    assert (ahead.status, "is not a position yet" in ahead.json["detail"]) == (400, True)


# -- what it says of itself


def test_a_console_tells_what_it_answered_and_who_waits(place: Scene) -> None:
    console = place.another(http_port=0)
    address = address_of(place.settings, "console")
    wait_until(lambda: ask(address, "/ready") == (200, "ready\n"), "it follows Kafka")
    assert ask(address, "/live") == (200, "live\n")
    for wallet_id in ("wallet-000000", "nobody", "nobody"):
        console.ask(f"/api/v1/wallets/{wallet_id}")
    console.ask("/<script>", "DELETE")

    def wait() -> None:
        with suppress(OSError):
            console.ask("/api/v1/outcomes/0/99999999?wait_s=30")

    waits = threading.Thread(target=wait)
    waits.start()
    feed = Events(place, "wallet-000000", console=console)
    waiting = "wallet_console_waiting_requests 1.0\n"
    wait_until(lambda: waiting in ask(address, "/metrics")[1], "one waits")
    told = ask(address, "/metrics")[1]
    assert value_of(told, "wallet_console_feeds") == 1
    assert value_of(told, "wallet_console_ready") == 1
    assert value_of(told, "wallet_console_known_outcomes") > 0
    route = 'route="/api/v1/wallets/{wallet}"'
    for status, times in ((200, 1), (404, 2)):
        series = f'wallet_console_requests_total{{method="GET",{route},status="{status}"}}'
        assert value_of(told, series) == times
    assert value_of(told, f"wallet_console_request_duration_seconds_count{{{route}}}") == 3
    assert 'method="other",route="none"' in told
    assert "<script>" not in told
    feed.close()
    console.process.kill()
    waits.join()


# -- what a browser may do


def test_every_answer_has_the_headers_that_keep_a_browser_from_harm(place: Scene) -> None:
    for path in (
        "/",
        "/wallets",
        "/rejections",
        "/seals",
        "/nothing",
        "/api/v1/seals",
        "/static/console.js",
        "/overview.json",
        "/find?q=1:2",
    ):
        answer = place.console.ask(path, headers={"Origin": "https://elsewhere.example"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


@pytest.mark.full
def test_pages_have_no_inline_code_and_name_nothing_of_elsewhere(place: Scene) -> None:
    source = place.console.get("/rejections?limit=1")["rejections"][0]["source"].replace(":", "/")
    for path in (
        "/",
        "/wallets",
        "/wallets/wallet-000000",
        "/wallets/wallet-000000?from=2026-01-01&to=2026-02-01&at=2026-01-15",
        "/rejections",
        "/rejections?from=2020-01-01",
        f"/rejections/{source}",
        f"/outcomes/{source}",
        "/seals",
    ):
        answer = place.console.ask(path)
        assert answer.status == 200, path
        text = answer.body.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)", text), path
        assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", text), path
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text), path
        assert '<html lang="en">' in text
        assert len(re.findall(r"<h1", text)) == 1


@pytest.mark.full
def test_a_name_of_somebody_else_that_leads_here_reads_nothing(place: Scene) -> None:
    for host, status in (("evil.example", 421), ("localhost:1", 200), ("127.0.0.1", 200)):
        assert place.console.ask("/api/v1/seals", headers={"Host": host}).status == status


@pytest.mark.full
def test_no_secret_is_in_a_log_or_an_answer(place: Scene) -> None:
    password = place.settings.postgres.get_secret_value()
    log = place.console.process.text()
    assert TOKEN not in log
    assert password not in log
    for path in ("/overview.json", "/api/v1/pipeline", "/api/v1/openapi.json"):
        body = place.console.ask(path).body.decode()
        assert TOKEN not in body
        assert password not in body


def test_the_openapi_document_that_is_kept_is_served(place: Scene) -> None:
    kept = json.loads((Path(__file__).parents[2] / "docs/api/openapi.json").read_text())
    assert place.console.get("/openapi.json") == kept
