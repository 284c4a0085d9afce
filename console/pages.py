"""Pages for people: server-rendered, readable without JavaScript, with filters in the URL."""

from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from config.times import rfc3339
from console import tables
from console.api import UNKNOWN, OfConsole, reason_in, rejection_of, source_in, stamped
from console.encoding import id_in, open_group_in, strings, time_in, whole_in
from console.live import Live, outcome_fields, pending_fields
from console.problems import Problem
from console.tables import Answer
from operations.sending.files.values import MINOR_DIGITS
from schemas.records import Reason

router = APIRouter(include_in_schema=False)

#: Rows of a page.
PAGE_ROWS = 50
#: Points of a chart of a balance.
POINTS = 500
#: Bytes of a value that a page shows; the JSON has all of it.
SHOWN_BYTES = 2_048
#: Lag in records from which the overview reports it.
BEHIND = 1_000

Text = Annotated[str, Query(max_length=400)]
From = Annotated[str, Query(alias="from", max_length=64)]


def money(amount: object, currency: str) -> str:
    """Minor units as people write them: 1250 EUR is 12.50; unchanged for an unknown currency."""
    minor = int(str(amount))
    digits = MINOR_DIGITS.get(currency, 0)
    whole, part = divmod(abs(minor), 10**digits)
    sign = "\u2212" if minor < 0 else ""
    return f"{sign}{whole:,}.{part:0{digits}}" if digits else f"{sign}{whole:,}"


def moment(text: str | None) -> str:
    """A time of the API for people: with milliseconds and without the zone."""
    return "" if not text else text.replace("T", " ").removesuffix("Z").removesuffix("000")


def segment(text: object) -> str:
    """An id as one path segment."""
    return quote(str(text), safe="")


def hexadecimal(value: bytes) -> Iterator[tuple[str, str, str]]:
    """A hex dump: for each 16 bytes the offset, the bytes, and their printable ASCII."""
    for at in range(0, min(len(value), SHOWN_BYTES), 16):
        some = value[at : at + 16]
        yield f"{at:06x}", some.hex(" "), "".join(chr(one) if 32 <= one < 127 else "·" for one in some)


_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("console"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_environment.filters |= {"money": money, "moment": moment, "segment": segment}


def page(name: str, status: int = 200, headers: dict[str, str] | None = None, **fields: Any) -> Response:
    """A page."""
    return HTMLResponse(_environment.get_template(name).render(fields), status, headers)


def problem(request: Request, told: Problem) -> Response:
    """A problem as a page."""
    return page("problem.html", told.status, told.headers, problem=told, prefix="", at=request.url.path)


# -- overview


@router.get("/")
async def overview(live: OfConsole) -> Response:
    """Whether everything is well, in one sentence, with the figures."""
    found = await _overview(live)
    return page("overview.html", **found)


@router.get("/overview.json")
async def overview_json(live: OfConsole) -> Response:
    """The same for programs, with the last quarter of an hour for the chart."""
    samples = [*live.freshness.samples]
    series = [
        {"at": rfc3339(one.at), "decided": str(one.decided), "input_end": str(one.input_end)}
        for one in samples
    ]
    return JSONResponse(strings(await _overview(live)) | {"samples": series})


async def _overview(live: Live) -> Answer:
    """Everything that the overview shows; unknown values are None, with the cause among the problems."""
    problems: list[str] = []
    reasons: dict[str, int] = {}
    until: Answer = UNKNOWN
    seals: list[Answer] = []
    if live.problem is not None:
        problems.append(f"Kafka does not answer: {live.problem}")
    try:
        async with live.database.asking() as connection:
            until = await tables.complete_until(connection)
            seals = await tables.seals(connection)
        reasons = await live.reasons()
    except Problem as told:
        problems.append(told.detail)
    partitions = []
    if live.problem is None:
        for at, (decided, end) in live.freshness.lag().items():
            complete = int(until["positions"].get(str(at), 0))
            partitions.append(
                {"partition": at, "input_end": end, "decided": decided, "worker_lag": max(0, end - decided),
                 "complete": complete, "tables_lag": max(0, end - complete)}
            )  # fmt: skip
    status = live.status_if_known()
    worker_lag = sum(one["worker_lag"] for one in partitions)
    tables_lag = sum(one["tables_lag"] for one in partitions)
    if status is not None and not status["workers"]:
        problems.append("no worker is running: nothing is posted")
    if worker_lag > BEHIND:
        problems.append(f"workers are {worker_lag:,} records behind the input")
    if until is not UNKNOWN and tables_lag - worker_lag > BEHIND:
        problems.append(f"the tables are {tables_lag - worker_lag:,} records behind the workers")
    return {
        "prefix": live.settings.prefix,
        "well": not problems,
        "problems": problems,
        "asked_at": rfc3339(datetime.now(UTC)),
        "partitions": partitions,
        "worker_lag": worker_lag,
        "tables_lag": tables_lag,
        "complete_until": until,
        "reasons": reasons,
        "readers": status,
        "seals": len(seals),
        "newest_seal": seals[-1]["month"] if seals else None,
    }


# -- wallets


@router.get("/find")
async def find(q: Text = "") -> Response:
    """Go to what was typed: a position of the input, or the beginning of a wallet's id."""
    text = q.strip()
    partition, colon, offset = text.partition(":")
    if colon and partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit():
        return RedirectResponse(f"/outcomes/{partition}/{offset}", 303)
    return RedirectResponse(f"/wallets?{urlencode({'prefix': text})}", 303)


@router.get("/wallets")
async def wallets(
    live: OfConsole,
    prefix: Annotated[str, Query(max_length=128)] = "",
    after: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """Wallets whose ids begin with what was typed."""
    async with live.database.one_state() as connection:
        rows = await tables.wallets(connection, prefix, after, PAGE_ROWS + 1)
        found, last = tables.of_page(rows, PAGE_ROWS)
        answer = await stamped(connection, {"wallets": found})
    more = last and {"prefix": prefix, "after": last["wallet_id"]}
    return page(
        "wallets.html",
        **answer,
        prefix=live.settings.prefix,
        typed=prefix,
        more=more and urlencode(more),
        json=f"/api/v1/wallets?{urlencode({'prefix': prefix})}",
    )


@router.get("/wallets/{wallet}")
async def wallet(
    live: OfConsole, wallet: str, from_: From = "", to: Text = "", at: Text = "", before: Text = ""
) -> Response:
    """A wallet: its balance, its entries from the newest on, its balance at a time."""
    wallet_id = id_in(wallet)
    start, end, when = time_in("from", from_), time_in("to", to), time_in("at", at)
    async with live.database.one_state() as connection:
        newest = await tables.newest(connection, wallet_id)
        rows = await tables.newest_entries(
            connection, wallet_id, start, end, whole_in("before", before or None), PAGE_ROWS + 1
        )
        entries, last = tables.of_page(rows, PAGE_ROWS)
        then = await tables.balance_at(connection, wallet_id, when, effective=False) if when else None
        answer = await stamped(connection, {"wallet": newest, "entries": entries})
    filters = {"from": from_, "to": to, "at": at}
    given = {name: text for name, text in filters.items() if text}
    more = last and given | {"before": last["sequence"]}
    ranged = urlencode({name: rfc3339(time) for name, time in (("from", start), ("to", end)) if time})
    return page(
        "wallet.html",
        **answer,
        prefix=live.settings.prefix,
        filters=filters,
        ranged=ranged,
        then=then,
        first=not before,
        more=more and urlencode(more),
        json=f"/api/v1/wallets/{segment(wallet_id)}/statement?{ranged}",
    )


@router.get("/wallets/{wallet}/chart.json")
async def chart(live: OfConsole, wallet: str, from_: From = "", to: Text = "") -> Response:
    """The balance over the filtered time: every entry, or evenly spread ones if there are many."""
    wallet_id = id_in(wallet)
    async with live.database.one_state() as connection:
        currency = (await tables.wallet(connection, wallet_id))["currency"]
        points = await tables.points(connection, wallet_id, time_in("from", from_), time_in("to", to), POINTS)
        answer = {"currency": currency, "digits": MINOR_DIGITS.get(currency, 0), "points": points}
        return JSONResponse(await stamped(connection, answer))


# -- groups, outcomes, rejections, seals


@router.get("/groups")
async def groups(live: OfConsole, after: Annotated[str | None, Query(max_length=200)] = None) -> Response:
    """Groups whose legs do not sum to zero, the oldest first."""
    place = open_group_in(after)
    async with live.database.one_state() as connection:
        found, last = await tables.open_groups(connection, place, PAGE_ROWS)
        answer = await stamped(connection, {"groups": found})
    given = {"after": after} if after else {}
    return page(
        "groups.html",
        **answer,
        prefix=live.settings.prefix,
        more=last and urlencode({"after": last}),
        json=f"/api/v1/reports/open-groups?{urlencode({'limit': PAGE_ROWS} | given)}",
    )


@router.get("/groups/{group}")
async def group(live: OfConsole, group: str) -> Response:
    """The legs of a movement."""
    group_id = id_in(group, "group")
    async with live.database.one_state() as connection:
        answer = await stamped(connection, await tables.group(connection, group_id))
    return page(
        "group.html", **answer, prefix=live.settings.prefix, json=f"/api/v1/groups/{segment(group_id)}"
    )


@router.get("/outcomes/{partition}/{offset}")
async def outcome(live: OfConsole, partition: str, offset: str) -> Response:
    """What became of a record of the input."""
    source = source_in(partition, offset)
    found = await live.outcome(source, 0.0)
    answer = outcome_fields(source, found) if found else pending_fields(source)
    json = f"/api/v1/outcomes/{source[0]}/{source[1]}"
    return page("outcome.html", **answer, prefix=live.settings.prefix, json=json)


@router.get("/rejections")
async def rejections(
    live: OfConsole, reason: Text = "", from_: From = "", to: Text = "", after: Text = ""
) -> Response:
    """Rejections: the newest, or by source if a time or a place is given."""
    wanted = reason_in(reason)
    start, end = time_in("from", from_), time_in("to", to)
    place = None
    if after:
        partition, _, offset = after.partition(":")
        place = source_in(partition, offset)
    by_source = bool(start or end or place)
    async with live.database.one_state() as connection:
        if by_source:
            rows = await tables.rejections(connection, wanted, start, end, place, PAGE_ROWS + 1)
        else:
            partitions = live.settings.partitions
            rows = await tables.newest_rejections(connection, partitions, wanted, PAGE_ROWS + 1)
        found, last = tables.of_page(rows, PAGE_ROWS)
        answer = await stamped(connection, {"rejections": found})
    filters = {"reason": wanted or "", "from": from_, "to": to}
    given = {name: text for name, text in filters.items() if text}
    # The page after the newest ones lists all of them by source.
    more = last and given | ({"after": last["source"]} if by_source else {"from": "1970-01-01"})
    return page(
        "rejections.html",
        **answer,
        prefix=live.settings.prefix,
        reasons=[str(one) for one in Reason],
        filters=filters,
        by_source=by_source,
        more=more and urlencode(more),
        json=f"/api/v1/rejections?{urlencode(given)}",
    )


@router.get("/rejections/{partition}/{offset}")
async def rejection(live: OfConsole, partition: str, offset: str) -> Response:
    """One rejection: its bytes, what could be decoded, and where decoding failed."""
    source = source_in(partition, offset)
    answer = await rejection_of(live, source)
    value = None if answer["value"] is None else b64decode(answer["value"])
    key = None if answer["key"] is None else b64decode(answer["key"])
    headers = [
        (b64decode(name), None if text is None else b64decode(text)) for name, text in answer.pop("headers")
    ]
    return page(
        "rejection.html",
        **answer,
        prefix=live.settings.prefix,
        lines=[*hexadecimal(value or b"")],
        bytes_all=0 if value is None else len(value),
        bytes_shown=SHOWN_BYTES,
        shown_key=None if key is None else key.decode(errors="backslashreplace"),
        shown_headers=[
            (
                name.decode(errors="backslashreplace"),
                None if text is None else text[:200].decode(errors="backslashreplace"),
            )
            for name, text in headers[:100]
        ],
        more_headers=max(0, len(headers) - 100),
        json=f"/api/v1/rejections/{source[0]}/{source[1]}",
    )


@router.get("/seals")
async def seals(live: OfConsole) -> Response:
    """Sealed months as a chain."""
    async with live.database.one_state() as connection:
        answer = await stamped(connection, {"seals": await tables.seals(connection)})
    return page("seals.html", **answer, prefix=live.settings.prefix, json="/api/v1/seals")
