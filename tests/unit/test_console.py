"""The console without servers: what is written how, what waits, and who is let in."""

import asyncio
import base64
import json
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from config.errors import ConfigurationError, WalletError
from config.settings import Settings
from console import api, encoding, guard, jobs, live
from console.app import openapi, usual
from console.database import Database
from console.decoding import decoded
from console.feeds import WalletFeed
from console.live import Live
from console.outcomes import OVERHEAD_BYTES, Feed, Outcomes, Posted, Refused
from console.pages import hexadecimal, moment, money, page, segment
from console.problems import Problem
from console.sending import transaction_in
from schemas.codec import NO_HASH, encode_entry, encode_transaction, frame
from schemas.records import DEBIT, Transaction

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
ONE = Transaction(
    "00000000-0000-4000-8000-000000000001", "alice", DEBIT, 5, "EUR", 10**15, None, (("k", "v"),)
)


@pytest.mark.parametrize("text", ["0:0", "3:1042", "2147483647:9223372036854775807"])
def test_a_position_is_read_as_it_is_written(text: str) -> None:
    assert encoding.position(*encoding.position_in("after", text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0:",
        ":0",
        "-1:0",
        "0:-1",
        "0:1 ",
        "a:b",
        "2147483648:0",
        "0:9223372036854775808",
        "\u0663:\u0661",
    ],
)
def test_what_is_no_position_is_told(text: str) -> None:
    with pytest.raises(Problem) as caught:
        encoding.position_in("after", text)
    assert (caught.value.status, "after" in caught.value.detail) == (400, True)


def test_times_have_a_zone_and_a_day_begins_in_utc() -> None:
    assert encoding.time_in("at", "2026-11-22T10:00:00+01:00") == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert encoding.time_in("at", "2026-11-22") == datetime(2026, 11, 22, tzinfo=UTC)
    assert encoding.time_in("at", "") is None
    for text in ("2026-11-22T10:00:00", "now", "0001-01-01T00:00:00+01:00", "10000-01-01T00:00:00Z"):
        with pytest.raises(Problem):
            encoding.time_in("at", text)


@given(st.text(min_size=1, max_size=128).filter(lambda text: "\0" not in text and text.isprintable()))
def test_any_id_goes_through_a_segment_of_a_path(text: str) -> None:
    assert "/" not in segment(text)
    assert encoding.id_in(segment(text)) == text


@pytest.mark.parametrize("text", ["%00", "%ff", "x" * 129, ""])
def test_what_no_id_can_be_is_not_found(text: str) -> None:
    with pytest.raises(Problem) as caught:
        encoding.id_in(text)
    assert caught.value.status == 404


def test_values_of_rows_are_written_as_the_api_writes_them() -> None:
    at, one = datetime(2026, 11, 22, 10, tzinfo=UTC), uuid4()
    row = {
        "at": at,
        "day": at.date(),
        "sum": Decimal(10**20),
        "id": one,
        "hash": b"\0\xff",
        "partition": 3,
        "n": 2**63,
    }
    assert encoding.strings(row | {"none": None, "complete": True, "metadata": {"channel": "app"}}) == {
        "at": "2026-11-22T10:00:00.000000Z",
        "day": "2026-11-22",
        "sum": "100000000000000000000",
        "id": str(one),
        "hash": "00ff",
        "partition": 3,
        "n": "9223372036854775808",
        "none": None,
        "complete": True,
        "metadata": {"channel": "app"},
    }


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("1250", "EUR", "12.50"),
        (-5, "EUR", "\u22120.05"),
        ("1234567", "JPY", "1,234,567"),
        ("1234", "KWD", "1.234"),
        ("9223372036854775807", "USD", "92,233,720,368,547,758.07"),
        ("1250", "XXX", "1,250"),
    ],
)
def test_money_is_shown_in_its_currency(amount: object, currency: str, shown: str) -> None:
    assert money(amount, currency) == shown


def test_times_of_pages_are_short() -> None:
    assert moment("2026-11-22T10:00:00.125000Z") == "2026-11-22 10:00:00.125"
    assert moment(None) == ""


def test_bytes_are_shown_beside_their_ascii() -> None:
    assert next(hexadecimal(b"ab\0" + bytes(14))) == ("000000", "61 62" + " 00" * 14, "ab" + "·" * 14)


# -- what is known, and who waits


def posted(offset: int, size: int = 0) -> tuple[tuple[int, int], Posted]:
    """An outcome of partition 0."""
    return (0, offset), Posted(offset, b"alice", bytes(size))


def test_who_waits_is_woken_and_who_waits_in_vain_is_told_nothing() -> None:
    async def play() -> None:
        outcomes = Outcomes(10**6, 10, 10)
        outcomes.loop = asyncio.get_running_loop()
        waiting = [asyncio.create_task(outcomes.wait((0, 1), 5)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(outcomes.tell, [posted(1)])
        assert [one.offset for one in await asyncio.gather(*waiting) if one] == [1, 1, 1]
        assert await outcomes.wait((0, 1), 0) == posted(1)[1]
        assert await outcomes.wait((0, 2), 0.01) is None
        assert outcomes._waiting == {}

    asyncio.run(play())


def test_no_more_wait_than_are_allowed_and_who_is_cancelled_makes_room() -> None:
    async def play() -> None:
        outcomes = Outcomes(10**6, 2, 10)
        waiting = [asyncio.create_task(outcomes.wait((0, number), 60)) for number in range(2)]
        await asyncio.sleep(0)
        full = outcomes.is_full
        assert await outcomes.wait((0, 9), 60) is None
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        assert (full, outcomes.is_full) == (True, False)
        waiting[1].cancel()
        await asyncio.gather(waiting[1], return_exceptions=True)
        assert outcomes._waiting == {}

    asyncio.run(play())


def test_the_oldest_outcomes_are_forgotten_when_memory_is_full() -> None:
    outcomes = Outcomes(10 * (OVERHEAD_BYTES + 100), 10, 10)
    outcomes.tell([posted(number, 100) for number in range(50)])
    outcomes.tell([posted(45, 100)])  # read again: it is known
    assert [outcomes.get((0, number)) is not None for number in (0, 39, 40, 49)] == [False, False, True, True]
    outcomes.tell([((0, 50), Refused(0, "INVALID", "why"))])
    assert outcomes.get((0, 50)) == Refused(0, "INVALID", "why")
    assert outcomes._bytes <= 10 * (OVERHEAD_BYTES + 100)


def test_a_slow_client_of_a_feed_costs_no_more_than_its_bound() -> None:
    async def play() -> None:
        feed = Feed(10)
        feed.add([posted(number) for number in range(25)])
        assert [source[1] for source, _ in feed.entries] == [20, 21, 22, 23, 24]

    asyncio.run(play())


def test_feeds_are_bounded_and_one_that_never_began_holds_nothing() -> None:
    async def play() -> None:
        settings = Settings(console_feeds=1)
        live = Live(settings, Database(settings))
        WalletFeed(live, "alice", None)  # its client is gone before the first event
        assert live.outcomes._feeds == {}
        begun = WalletFeed(live, "alice", None).events()
        assert await anext(begun) == b"retry: 1000\n\n"
        with pytest.raises(Problem, match="WALLET_CONSOLE_FEEDS"):
            WalletFeed(live, "bob", None)
        await begun.aclose()  # type: ignore[attr-defined] # it is a generator
        WalletFeed(live, "bob", None)
        # Let in at the same moment, one of them goes on.
        first, second = (WalletFeed(live, name, None).events() for name in ("alice", "bob"))
        assert await anext(first) == b"retry: 1000\n\n"
        assert [part async for part in second] == [b"retry: 1000\n\n"]
        assert [*live.outcomes._feeds] == [b"alice"]
        await first.aclose()  # type: ignore[attr-defined]

    asyncio.run(play())


def test_a_duplicate_that_is_read_before_the_entry_that_it_repeats_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a database: the ledger alone has it, or nobody."""
    entry = encode_entry(encode_transaction(ONE), 1, -5, 0, 0, 3) + NO_HASH
    refused = Refused(0, "DUPLICATE", "it was posted before")

    async def play() -> None:
        settings = Settings()
        place = Live(settings, Database(settings))
        answering = asyncio.create_task(api.decided(place, (0, 9), refused, "alice", ONE.transaction_id))
        await asyncio.sleep(0)
        assert not answering.done()
        place.outcomes.tell([((0, 3), Posted(1, b"alice", frame(2) + entry))])
        found = await answering
        assert (found.status_code, json.loads(bytes(found.body))["entry"]["source"]) == (200, "0:3")
        monkeypatch.setattr(live, "FIRST_S", 0.01)
        found = await api.decided(place, (0, 9), refused, "bob", ONE.transaction_id)
        assert (found.status_code, json.loads(bytes(found.body))) == (
            200,
            {"source": "0:9", "outcome": "rejected", "reason": "DUPLICATE", "detail": "it was posted before"},
        )

    asyncio.run(play())


def test_the_first_posting_of_an_id_is_found_before_its_source_only() -> None:
    outcomes = Outcomes(10**6, 10, 10)
    wanted = ONE.transaction_id.encode()
    outcomes.tell([((0, 3), Posted(1, b"alice", b"." + wanted)), ((0, 9), Posted(2, b"alice", wanted))])
    assert outcomes.posted_before((0, 5), b"alice", ONE.transaction_id) == Posted(1, b"alice", b"." + wanted)
    assert outcomes.posted_before((0, 3), b"alice", ONE.transaction_id) is None
    assert outcomes.posted_before((0, 5), b"bob", ONE.transaction_id) is None


# -- work that a request waits for


def request(receive: Receive) -> Request:
    """A request whose client does what `receive` says."""
    return Request({"type": "http", "method": "GET", "path": "/", "headers": []}, receive)


def test_one_piece_of_work_is_in_hand_until_its_thread_ends_even_when_its_request_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "TURN_S", 0.05)
    begun, end = [0], threading.Event()

    def stubborn(stop: threading.Event) -> str:
        begun[0] += 1
        stop.wait(PATIENCE_S)
        end.wait(PATIENCE_S)
        raise WalletError("nobody hears this")

    async def play() -> None:
        never = asyncio.Event()

        async def stays() -> Message:
            await never.wait()
            return {"type": "http.disconnect"}

        question = jobs.Question[str]("a look", 0.05, "look yourself")
        with pytest.raises(Problem, match=r"a look takes longer than 0\.05 s: look yourself"):
            await question.ask(request(stays), stubborn)
        for _ in range(6):
            with pytest.raises(Problem, match="a look is in hand for another request"):
                await question.ask(request(stays), stubborn)
        end.set()
        await asyncio.wait_for(question._turn.acquire(), PATIENCE_S)
        question._turn.release()
        assert await question.ask(request(stays), lambda _: "seen") == "seen"
        with pytest.raises(WalletError, match="away"):
            await question.ask(request(stays), _away)
        assert begun == [1]

    asyncio.run(play())


def test_a_console_does_one_resubmission_at_a_time_and_its_page_says_what_it_is_at() -> None:
    job, step, read = jobs.Job("resubmission"), threading.Event(), threading.Event()

    def work(itself: jobs.Job) -> dict[str, object]:
        read.wait(PATIENCE_S)
        read.clear()
        itself.count = 3
        step.set()
        read.wait(PATIENCE_S)
        return {"records": 3, "skipped": {}}

    def shown() -> str:
        return bytes(page("resubmitting.html", job=job.fields(), prefix="", json="").body).decode()

    assert job.start({"reason": "INVALID"}, work)
    assert not job.start({"reason": "CONFLICT"}, work)
    assert "Reading the rejections" in shown()
    read.set()
    assert step.wait(PATIENCE_S)
    assert "Sending: 0 of at most 3 are confirmed" in shown()
    read.set()
    assert job._thread is not None
    job._thread.join(PATIENCE_S)
    assert "Done: 3 records were sent" in shown()
    assert job.about == {"reason": "INVALID"}


def _away(_: threading.Event) -> str:
    raise WalletError("away")


def test_work_is_told_to_stop_when_the_client_is_gone() -> None:
    """With a real server and a real connection that is closed."""
    question = jobs.Question[str]("a look", PATIENCE_S, "look yourself")
    begun, stopped = threading.Event(), threading.Event()

    def work(stop: threading.Event) -> str:
        begun.set()
        if stop.wait(PATIENCE_S / 2):
            stopped.set()
        return ""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(Problem):
            await question.ask(Request(scope, receive), work)
        await Response()(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, http="httptools", lifespan="off", log_config=None))
        serving = threading.Thread(target=server.run, args=([listener],))
        serving.start()
        try:
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert begun.wait(PATIENCE_S)
                assert not stopped.is_set()
            assert stopped.wait(PATIENCE_S)
        finally:
            server.should_exit = True
            serving.join()


# -- what comes in


def test_a_transaction_may_stand_on_several_lines_with_its_amount_as_a_string() -> None:
    fields = {"transaction_id": ONE.transaction_id, "wallet_id": "alice", "type": "DEBIT", "amount": "5",
              "currency": "EUR", "occurred_at": "2001-09-09T01:46:40Z", "metadata": {"k": "v"}}  # fmt: skip
    assert transaction_in(json.dumps(fields, indent=2).encode()) == ONE


def test_what_cannot_be_decoded_says_where_it_broke() -> None:
    assert decoded(None)["not_decoded"] == "there is no value"
    assert "wire format" in decoded(b"nonsense")["not_decoded"]
    whole = frame(1) + encode_transaction(ONE)
    assert decoded(whole)["decoded"]["amount"] == "5"
    assert decoded(whole[:-3])["decoded"] is None
    late = decoded(frame(1) + encode_transaction(ONE._replace(occurred_us=2**62)))["decoded"]
    assert (late["schema_id"], late["occurred_at"], late["metadata"]) == (1, f"{2**62} us", [["k", "v"]])


# -- who is let in


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),  # noqa: S104 - it is refused
        ("::", False),
        ("10.0.0.1", False),
        ("db.example", False),
    ],
)
def test_only_loopback_needs_no_token(host: str, local: bool) -> None:
    settings = Settings(_env_file=None, console_host=host)
    assert guard.is_loopback(host) == local
    if local:
        guard.check(settings)
    else:
        with pytest.raises(ConfigurationError, match="WALLET_CONSOLE_TOKEN"):
            guard.check(settings)
    guard.check(settings.model_copy(update={"console_token": SecretStr("x" * 16)}))


def test_writes_need_a_token_and_a_token_some_length() -> None:
    with pytest.raises(ConfigurationError, match="WALLET_CONSOLE_TOKEN"):
        guard.check(Settings(_env_file=None, console_writes=True))
    with pytest.raises(ValueError, match="at least 16"):
        Settings(_env_file=None, console_token=SecretStr("short"))


def test_the_token_is_shown_as_bearer_and_as_a_password_for_reading_only() -> None:
    token = "t" * 20
    settings = Settings(_env_file=None, console_token=SecretStr(token))
    basic = "Basic " + base64.b64encode(f"me:{token}".encode()).decode()
    assert guard.knows_token(settings, f"Bearer {token}")
    assert guard.knows_token(settings, "", f"bearer {token}")
    assert guard.knows_token(settings, basic, basic=True)
    for wrong in ("", token, basic, f"Bearer {token}x", "Bearer ", "Basic x", "Basic %%%", "Bearer \xff"):
        assert not guard.knows_token(settings, wrong), wrong
    assert not guard.knows_token(Settings(_env_file=None), "Bearer ")


def asked(settings: Settings, path: bytes, **headers: str) -> tuple[int, list[str]]:
    """The status that the guard lets through or answers itself, and the paths that came behind it."""
    came, sent = list[str](), list[int]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        came.append(scope["path"])
        await Response()(scope, receive, send)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert b"content-security-policy" in dict(message["headers"])
            sent.append(message["status"])

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(path.decode()),
        "raw_path": path,
        "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
    }
    asyncio.run(guard.Guard(app, settings)(scope, receive, send))
    return sent[0], came


def test_on_loopback_only_its_names_are_answered_and_elsewhere_only_who_has_the_token() -> None:
    here = Settings(_env_file=None)
    there = Settings(_env_file=None, console_host="10.0.0.1", console_token=SecretStr("t" * 20))
    assert asked(here, b"/wallets/a%2Fb", host="localhost:8080") == (200, ["/wallets/a%2Fb"])
    assert asked(here, b"/", host="[::1]:8080") == (200, ["/"])
    assert asked(here, b"/", host="evil.example") == (421, [])
    assert asked(here, b"/") == (421, [])
    assert asked(there, b"/", host="console.example") == (401, [])
    assert asked(there, b"/", authorization="Bearer " + "u" * 20) == (401, [])
    assert asked(there, b"/", authorization="Bearer " + "t" * 20) == (200, ["/"])
    basic = base64.b64encode(b"anybody:" + b"t" * 20).decode()
    assert asked(there, b"/", authorization=f"Basic {basic}") == (200, ["/"])


def test_the_openapi_document_that_is_kept_is_the_codes() -> None:
    kept = json.loads((ROOT / "docs/api/openapi.json").read_text("utf-8"))
    assert kept == json.loads(json.dumps(openapi(Settings(_env_file=None)))), (
        "write it anew: wallet console --openapi > docs/api/openapi.json"
    )
    assert all("/api/v1/" in path for path in kept["paths"])


def test_what_is_not_ours_came_with_its_licence() -> None:
    static = ROOT / "console/static"
    for name in ("htmx", "uPlot"):
        assert (static / f"{name}.LICENSE").read_text().strip()
        assert [*static.glob(f"{name}*.js")]


@pytest.mark.parametrize(
    ("query", "wait_s"),
    [
        (b"", 0.0),
        (b"wait_s=5", 5.0),
        (b"wait_s=0.25", 0.25),
        (b"wait_s=30", 30.0),
        *(
            (unusual, None)
            for unusual in (b"wait_s=31", b"wait_s=-1", b"wait_s=1e1", b"wait_s=", b"wait_s=nan", b"a=1")
        ),
    ],
)
def test_requests_take_the_shortcut_only_if_nothing_about_them_is_unusual(
    query: bytes, wait_s: float | None
) -> None:
    def taken(method: str, path: str) -> tuple[float, tuple[str, str] | None] | None:
        found = usual({"method": method, "path": f"/api/v1/{path}", "query_string": query})
        return found and (found.wait_s, found.source)

    is_usual = wait_s is not None
    assert taken("POST", "transactions") == ((wait_s, None) if is_usual else None)
    assert taken("GET", "outcomes/3/70") == ((wait_s, ("3", "70")) if is_usual else None)
    for method, path in (
        ("GET", "transactions"),
        ("HEAD", "outcomes/3/70"),
        ("POST", "outcomes/3/70"),
        ("GET", "outcomes/3/-1"),
        ("GET", "outcomes/3/7/0"),
        ("GET", "outcomes/3/\u0667"),
        ("GET", "outcomes/3/70\n"),
    ):
        assert taken(method, path) is None, (method, path)
