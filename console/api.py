"""The HTTP API (DESIGN section 12): JSON under /api/v1; answers from the tables say how complete those are."""

import asyncio
import re
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response, StreamingResponse

from config.times import rfc3339
from console import models, tables
from console.database import Connection
from console.decoding import decoded
from console.encoding import (
    INT32_MAX,
    day_in,
    id_in,
    open_group_in,
    position_in,
    time_in,
    whole_in,
)
from console.feeds import WalletFeed
from console.guard import knows_token, must_write
from console.live import Live, is_duplicate, outcome_fields, pending_fields
from console.outcomes import Outcome, Posted, Source
from console.problems import MEDIA_TYPE, Problem, not_found, wrong
from console.sending import transaction_in
from console.tables import Answer
from schemas.records import Reason

MOST_WAIT_S = 30.0
#: Seconds to wait for a request's body.
BODY_S = 10.0
#: What a body is that does not say it.
JSON = "application/json"
#: Bytes of a body beyond the largest record: for JSON escapes, spaces and names.
BODY_FACTOR = 8
#: How much of a too large body is read, so that its client gets the answer.
PASSING_BYTES = 64 * 1024 * 1024
PROBLEM: dict[str, Any] = {
    "description": "A problem, with a sentence.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemFields"}}},
}
#: How complete the tables are, where they do not answer.
UNKNOWN: Answer = {"recorded_at": None, "positions": {}}
#: What any request may be answered with.
ANY: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 401, 404, 421, 503), PROBLEM)

router = APIRouter(prefix="/api/v1", responses=ANY)

WalletId = Annotated[
    str, Path(description="The wallet's id, percent-encoded as one segment.", max_length=2_000)
]


def written(pattern: str) -> BeforeValidator:
    """Only numbers written like this: pydantic also takes 1_0, ' 5', +5 and digits of other scripts.

    After the constraints, which OpenAPI's document would otherwise show under pydantic's own names.
    """

    def checked(text: object) -> object:
        if isinstance(text, str) and not re.fullmatch(pattern, text):
            raise PydanticCustomError("number", "write a number with the digits 0 to 9, for example 10")
        return text

    return BeforeValidator(checked)


Limit = Annotated[int, Query(ge=1, le=1_000), written("[0-9]+")]
WaitS = Annotated[
    float,
    Query(ge=0, le=MOST_WAIT_S, description="Seconds to wait, at most."),
    written(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"),
]
Text = Annotated[str | None, Query(max_length=200)]
At = Annotated[
    str | None, Query(max_length=64, description="RFC 3339, with a zone.", json_schema_extra={"format": "date-time"})
]  # fmt: skip
From = Annotated[
    str | None,
    Query(alias="from", max_length=64, description="From this time on.", json_schema_extra={"format": "date-time"}),
]  # fmt: skip
To = Annotated[
    str | None, Query(max_length=64, description="Before this time.", json_schema_extra={"format": "date-time"})
]  # fmt: skip
Day = Annotated[str | None, Query(max_length=10, json_schema_extra={"format": "date"})]
FromDay = Annotated[str | None, Query(alias="from", max_length=10, json_schema_extra={"format": "date"})]
Whole = Annotated[str | None, Query(max_length=19, pattern=r"^[0-9]+$")]


async def live_of(request: Request) -> Live:
    """What the console knows of Kafka, and its sessions of PostgreSQL."""
    live: Live = request.app.state.live
    return live


OfConsole = Annotated[Live, Depends(live_of)]


async def stamped(connection: Connection, answer: Answer) -> Answer:
    """An answer with the positions that it stands for, read in the same state of the tables."""
    return answer | {"complete_until": await tables.complete_until(connection)}


def page_of(answer: Answer, more: bool, query: dict[str, object | None]) -> Answer:
    """An answer with the query of its next page, or null."""
    given = {name: value for name, value in query.items() if value is not None}
    return answer | {"next": urlencode(given) if more else None}


@router.get("/wallets", response_model=models.Wallets)
async def wallets(
    live: OfConsole,
    prefix: Annotated[str, Query(max_length=128)] = "",
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Wallets whose ids begin with this, by the bytes of the ids."""
    async with live.database.one_state() as connection:
        found, last = tables.of_page(await tables.wallets(connection, prefix, after, limit + 1), limit)
        query = {"prefix": prefix or None, "limit": limit, "after": last and last["wallet_id"]}
        answer = page_of({"wallets": found}, last is not None, query)
        return JSONResponse(await stamped(connection, answer))


@router.get("/wallets/{wallet}", response_model=models.Wallet)
async def wallet(live: OfConsole, wallet: WalletId) -> Response:
    """A wallet and its newest entry."""
    async with live.database.one_state() as connection:
        return JSONResponse(await stamped(connection, await tables.newest(connection, id_in(wallet))))


@router.get("/wallets/{wallet}/balance", response_model=models.Balance, responses={504: PROBLEM})
async def balance(
    live: OfConsole,
    wallet: WalletId,
    at: At = None,
    effective_at: At = None,
    after: Annotated[str | None, Query(max_length=40, description="partition:offset of the input")] = None,
    wait_s: WaitS = 5.0,
) -> Response:
    """The balance now; at a time by recorded_at or by occurred_at; or once a position's outcome is in the tables."""
    wallet_id = id_in(wallet)
    recorded, occurred = time_in("at", at), time_in("effective_at", effective_at)
    if sum(one is not None for one in (recorded, occurred, after)) > 1:
        raise wrong("use only one of at, effective_at and after")
    source = None if after is None else position_in("after", after)
    late = source is not None and not await live.wait_for_row(source, wait_s)
    async with live.database.one_state() as connection:
        if late:
            until = await tables.complete_until(connection)
            raise Problem(504, f"the outcome of {after} is not in the tables yet", complete_until=until)
        if recorded or occurred:
            time = recorded or occurred
            assert time is not None  # noqa: S101 - one of them is there
            answer = await tables.balance_at(connection, wallet_id, time, effective=recorded is None)
        else:
            newest = await tables.newest(connection, wallet_id)
            answer = {name: newest[name] for name in ("wallet_id", "currency", "balance", "source")}
        return JSONResponse(await stamped(connection, answer))


@router.get("/wallets/{wallet}/statement", response_model=models.Statement)
async def statement(
    live: OfConsole,
    wallet: WalletId,
    from_: From = None,
    to: To = None,
    after_sequence: Whole = None,
    limit: Limit = 100,
) -> Response:
    """A wallet's entries in their order, recorded from a time (included) to another (not)."""
    start, end = time_in("from", from_), time_in("to", to)
    after = whole_in("after_sequence", after_sequence) or 0
    async with live.database.one_state() as connection:
        answer = await tables.statement(connection, id_in(wallet), start, end, after, limit)
        more = answer.pop("more")
        last = answer["entries"][-1]["sequence"] if answer["entries"] else None
        answer = page_of(answer, more, {"from": from_, "to": to, "limit": limit, "after_sequence": last})
        return JSONResponse(await stamped(connection, answer))


@router.get("/wallets/{wallet}/proof", response_model=models.Proof)
async def proof(
    live: OfConsole, wallet: WalletId, sequence: Whole = None, after_sequence: Whole = None
) -> Response:
    """The bytes of a wallet's entries, so that anybody can check their chain of hashes."""
    to, after = whole_in("sequence", sequence), whole_in("after_sequence", after_sequence)
    async with live.database.one_state() as connection:
        answer = await tables.proof(connection, id_in(wallet), to, after)
        more = answer.pop("more")
        last = answer["entries"][-1]["sequence"] if answer["entries"] else None
        answer = page_of(answer, more, {"sequence": sequence, "after_sequence": last})
        return JSONResponse(await stamped(connection, answer))


@router.get(
    "/wallets/{wallet}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    live: OfConsole,
    wallet: WalletId,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> Response:
    """A wallet's entries as they come: server-sent events `entry`, whose id is the position."""
    wallet_id = id_in(wallet)
    after = position_in("Last-Event-ID", last_event_id) if last_event_id else None
    _ = live.freshness
    feed = WalletFeed(live, wallet_id, after)
    if after is not None:
        await live.must_have_come(after)
    return StreamingResponse(
        feed.events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


@router.get("/groups/{group}", response_model=models.Group)
async def group(live: OfConsole, group: Annotated[str, Path(max_length=2_000)]) -> Response:
    """The legs of a movement, and whether they sum to zero."""
    async with live.database.one_state() as connection:
        return JSONResponse(await stamped(connection, await tables.group(connection, id_in(group, "group"))))


@router.get("/rejections", response_model=models.Rejections)
async def rejections(
    live: OfConsole,
    reason: Text = None,
    from_: From = None,
    to: To = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """What was rejected, by its source."""
    wanted = reason_in(reason)
    start, end = time_in("from", from_), time_in("to", to)
    place = position_in("after", after) if after else None
    async with live.database.one_state() as connection:
        rows = await tables.rejections(connection, wanted, start, end, place, limit + 1)
        found, last = tables.of_page(rows, limit)
        query = {"reason": wanted, "from": from_, "to": to, "limit": limit, "after": last and last["source"]}
        answer = page_of({"rejections": found}, last is not None, query)
        return JSONResponse(await stamped(connection, answer))


def reason_in(text: str | None) -> str | None:
    """A reason, in upper or lower case; Problem 400 if it is not one."""
    if not text:
        return None
    if text.upper() not in {str(one) for one in Reason}:
        raise wrong(f"reason {text[:40]!r} is not one of {', '.join(Reason)}")
    return text.upper()


@router.get("/rejections/{partition}/{offset}", response_model=models.Rejection)
async def rejection(
    live: OfConsole,
    partition: Annotated[str, Path(max_length=20)],
    offset: Annotated[str, Path(max_length=20)],
) -> Response:
    """A rejection with its bytes."""
    return JSONResponse(await rejection_of(live, source_in(partition, offset)))


async def rejection_of(live: Live, source: Source) -> Answer:
    """A rejection with its bytes, and what could be decoded of them; a Problem 404 for none."""
    async with live.database.one_state() as connection:
        answer = await tables.rejection(connection, *source)
        value = answer["value"]
        return await stamped(connection, answer | decoded(value if value is None else b64decode(value)))


def source_in(partition: str, offset: str) -> Source:
    """A position in two segments of a path; Problem 404 if it is not one."""
    try:
        return whole_in("partition", partition, INT32_MAX) or 0, whole_in("offset", offset) or 0
    except Problem as problem:
        raise not_found(problem.detail) from None


@router.get(
    "/outcomes/{partition}/{offset}",
    response_model=models.Outcome,
    response_model_exclude_none=True,
    responses={202: {"model": models.Pending}},
)
async def outcome(
    live: OfConsole,
    partition: Annotated[str, Path(max_length=20)],
    offset: Annotated[str, Path(max_length=20)],
    wait_s: WaitS = 0.0,
) -> Response:
    """What became of a record of the input."""
    source = source_in(partition, offset)
    found = await live.outcome(source, wait_s)
    return pending(source) if found is None else JSONResponse(outcome_fields(source, found))


def pending(source: Source) -> Response:
    """202: it is not decided yet; where to ask again."""
    where = f"/api/v1/outcomes/{source[0]}/{source[1]}"
    return JSONResponse(pending_fields(source), 202, {"Location": where})


@router.post(
    "/transactions",
    status_code=201,
    response_model=models.Outcome,
    response_model_exclude_none=True,
    responses={
        200: {"model": models.Outcome, "description": "DUPLICATE, with the entry of the first."},
        202: {"model": models.Pending},
        403: PROBLEM,
        408: PROBLEM,
        409: PROBLEM,
        413: PROBLEM,
        422: PROBLEM,
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": models.TransactionFields.model_json_schema()}},
        },
        "security": [{"bearer": []}],
    },
)
async def post(request: Request, live: OfConsole, wait_s: WaitS = 0.0) -> Response:
    """Send a transaction, and wait for what becomes of it; a client that does not know sends it again under its id."""
    settings = live.settings
    must_write(settings)
    if not knows_token(settings, request.headers.get("authorization", "")):
        raise Problem(401, "send the token as `Authorization: Bearer`", {"WWW-Authenticate": "Bearer"})
    one = transaction_in(await body_of(request, "transaction", JSON, BODY_FACTOR * settings.max_record_bytes))
    if wait_s and live.outcomes.is_full:
        raise Problem(
            503,
            "nothing was sent: too many requests are waiting (WALLET_CONSOLE_WAITING)",
            {"Retry-After": "1"},
        )
    source = await live.sender().send(one)
    found = await live.outcomes.wait(source, wait_s)
    if found is None:
        return pending(source)
    return await decided(live, source, found, one.wallet_id, one.transaction_id)


async def decided(
    live: Live, source: Source, found: Outcome, wallet_id: str, transaction_id: str
) -> Response:
    """The answer to who sent a transaction that has been decided."""
    answer = outcome_fields(source, found)
    if isinstance(found, Posted):
        return JSONResponse(answer, 201)
    if is_duplicate(found):
        entry = await live.posted_first(source, wallet_id, transaction_id)
        return JSONResponse(answer if entry is None else answer | {"entry": entry})
    status = 409 if found.reason == Reason.CONFLICT else 422
    raise Problem(status, found.detail, source=answer["source"], outcome="rejected", reason=found.reason)


async def body_of(request: Request, what: str, kind: str, most_bytes: int) -> bytes:
    """A request's body; Problem 415 for another kind, 413 for more bytes than this, 408 for one that does not come."""
    if request.headers.get("content-type", JSON).partition(";")[0].strip().lower() != kind:
        raise Problem(415, f"send the {what} as {kind}")
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                size += len(piece)
                if size <= most_bytes:
                    body += piece
                elif size > PASSING_BYTES:
                    break
            # Read and discard the rest: a client that is still sending would not see the answer.
            if size > most_bytes:
                raise Problem(413, f"the body has more than {most_bytes} bytes", {"Connection": "close"})
    except TimeoutError:
        raise Problem(408, f"the body did not come within {BODY_S:g} s", {"Connection": "close"}) from None
    return bytes(body)


@router.get("/reports/trial-balance", response_model=models.TrialBalance)
async def trial_balance(live: OfConsole, at: At = None) -> Response:
    """Credits, debits and balance of all wallets, by currency."""
    time = time_in("at", at)
    async with live.database.one_state() as connection:
        answer = {"at": time and rfc3339(time), "currencies": await tables.trial_balance(connection, time)}
        return JSONResponse(await stamped(connection, answer))


@router.get("/reports/open-groups", response_model=models.OpenGroups)
async def open_groups(
    live: OfConsole, limit: Limit = 100, after: Annotated[str | None, Query(max_length=200)] = None
) -> Response:
    """Groups whose legs do not sum to zero; reads every entry that has a group."""
    place = open_group_in(after)
    async with live.database.one_state() as connection:
        groups, last = await tables.open_groups(connection, place, limit)
        answer = page_of({"groups": groups}, last is not None, {"limit": limit, "after": last})
        return JSONResponse(await stamped(connection, answer))


@router.get("/reports/daily", response_model=models.Daily)
async def daily(
    live: OfConsole,
    wallet_id: Annotated[str, Query(max_length=128)],
    from_: FromDay = None,
    to: Day = None,
) -> Response:
    """A wallet's balance at the end of each day in UTC; the last 30 days unless said."""
    end = day_in("to", to) or datetime.now(UTC).date() + timedelta(days=1)
    try:
        first = day_in("from", from_) or end - timedelta(days=30)
    except OverflowError:
        raise wrong("30 days before `to` is out of range: add `from`") from None
    if not 0 < (end - first).days <= tables.MOST_DAYS:
        raise wrong(f"from {first} to {end} must be 1 to {tables.MOST_DAYS} days")
    async with live.database.one_state() as connection:
        return JSONResponse(await stamped(connection, await tables.daily(connection, wallet_id, first, end)))


@router.get("/seals", response_model=models.Seals)
async def seals(live: OfConsole) -> Response:
    """Sealed months."""
    async with live.database.one_state() as connection:
        return JSONResponse(await stamped(connection, {"seals": await tables.seals(connection)}))


@router.get("/pipeline", response_model=models.Pipeline)
async def pipeline(live: OfConsole) -> Response:
    """How far the worker and each sink are, and what was rejected."""
    return JSONResponse(await pipeline_fields(live))


async def pipeline_fields(live: Live) -> Answer:
    """The pipeline's status, with the positions up to which the tables are complete, where they answer."""
    answer = await live.status()
    try:
        async with live.database.asking() as connection:
            return await stamped(connection, answer)
    except Problem:
        return answer | {"complete_until": UNKNOWN}
