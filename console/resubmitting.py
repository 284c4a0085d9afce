"""Rejected records sent again: what would be sent and where, and, where writes are on, sending it.

The mechanism is that of `wallet rejections resubmit`: no rejection is resubmitted twice, whoever does it.
"""

import asyncio
from typing import Annotated
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from config.errors import WalletError
from config.settings import Settings
from console.api import OfConsole, reason_in
from console.encoding import INT32_MAX, position_in, whole_in
from console.guard import shows
from console.jobs import Job
from console.live import Live
from console.pages import page
from console.problems import Problem, away, wrong
from console.tables import Answer
from operations.rejections.listing import REJECTION_OF, Wanted
from operations.rejections.resubmit import Options, Plan, plan, send
from schemas.records import Reason

router = APIRouter(include_in_schema=False)

#: Records of a dry run that are shown; all are counted.
SHOWN = 50
#: Seconds for a dry run; reading all rejections of a large topic may take longer.
DRY_RUN_S = 30.0
#: Seconds that Kafka gets to answer before it counts as away.
KAFKA_S = 3.0
#: Bytes of a form.
FORM_BYTES = 8_192
RATE = 500.0

Text = Annotated[str, Query(max_length=64)]
FromOffset = Annotated[str, Query(alias="from_offset", max_length=19)]


def wanted_in(reason: str, partition: str, from_offset: str, to_offset: str, source: str) -> Wanted:
    """Which rejections; Problem 400 for what is none."""
    chosen = reason_in(reason or None)
    return Wanted(
        reasons=frozenset({chosen}) if chosen else frozenset(),
        partition=whole_in("partition", partition or None, INT32_MAX),
        from_offset=whole_in("from_offset", from_offset or None),
        to_offset=whole_in("to_offset", to_offset or None),
        named=frozenset({"{}:{}".format(*position_in("source", source))}) if source else None,
    )


@router.get("/rejections/resubmit")
async def dry_run(
    live: OfConsole,
    reason: Text = "",
    partition: Text = "",
    from_offset: FromOffset = "",
    to_offset: Text = "",
    source: Text = "",
) -> Response:
    """What would be sent, and where; a form to send it, where writes are on."""
    filters = {"reason": reason, "partition": partition, "from_offset": from_offset, "to_offset": to_offset,
               "source": source}  # fmt: skip
    found = await _planned(live, wanted_in(**filters))
    given = {name: text for name, text in filters.items() if text}
    return page(
        "resubmit.html",
        found=found,
        filters=filters,
        given=given,
        reasons=[str(one) for one in Reason],
        writes=live.settings.console_writes,
        prefix=live.settings.prefix,
        json=f"/rejections/resubmit.json?{urlencode(given)}",
    )


@router.get("/rejections/resubmit.json")
async def dry_run_json(
    live: OfConsole,
    reason: Text = "",
    partition: Text = "",
    from_offset: FromOffset = "",
    to_offset: Text = "",
    source: Text = "",
) -> Response:
    """The same for programs."""
    wanted = wanted_in(reason, partition, from_offset, to_offset, source)
    return JSONResponse(await _planned(live, wanted))


async def _planned(live: Live, wanted: Wanted) -> Answer | None:
    """What would happen; None where nothing was asked for."""
    if wanted == Wanted():
        return None
    settings = _briefly(live)
    try:
        async with asyncio.timeout(DRY_RUN_S):
            return await asyncio.to_thread(lambda: _listed(plan(settings, wanted, Options())))
    except TimeoutError:
        raise away(
            "the rejections were not read in time: choose fewer, or use `wallet rejections resubmit`"
        ) from None
    except WalletError as error:
        raise away(str(error)) from None


def _listed(planned: Plan) -> Answer:
    shown: list[Answer] = []
    for one in planned.again:
        if len(shown) < SHOWN:
            key = None if one.key is None else one.key.decode(errors="backslashreplace")
            of = dict(one.headers)[REJECTION_OF]
            shown.append(
                {
                    "source": (of or b"").decode(),
                    "partition": one.partition,
                    "key": key,
                    "bytes": len(one.value or b""),
                }
            )
    return _outcome(planned) | {"shown": shown}


def _outcome(planned: Plan) -> Answer:
    outcome = planned.outcome
    return {
        "looked_at": planned.count,
        "records": outcome.resubmitted.total(),
        "reasons": dict(sorted(outcome.resubmitted.items())),
        "skipped": dict(sorted(outcome.skipped.items())),
        "not_found": outcome.not_found,
    }


@router.post("/rejections/resubmit")
async def execute(request: Request, live: OfConsole) -> Response:
    """Send what a form names; the answer is the page that shows how far it is."""
    form = await _form(request)
    _may_write(request, live.settings, form)
    if form.get("confirm") != "yes":
        raise wrong("nothing was sent: confirm it")
    filters = {
        name: form.get(name, "") for name in ("reason", "partition", "from_offset", "to_offset", "source")
    }
    wanted = wanted_in(**filters)
    if wanted == Wanted():
        raise wrong("nothing was sent: say what to resubmit")
    settings = _briefly(live)

    def work(job: Job) -> Answer:
        planned = plan(settings, wanted, Options(execute=True))
        job.count = planned.count

        def advance(done: int) -> None:
            job.done = done

        send(planned, RATE, advance)
        return _outcome(planned)

    if not _job(request).start({name: text for name, text in filters.items() if text}, work):
        raise Problem(409, "nothing was sent: a resubmission is in hand, see /rejections/resubmit/progress")
    return RedirectResponse("/rejections/resubmit/progress", 303)


@router.get("/rejections/resubmit/progress")
async def progress(request: Request, live: OfConsole) -> Response:
    """How far the newest resubmission of this console is."""
    return page(
        "resubmitting.html", job=_job(request).fields(), prefix=live.settings.prefix,
        json="/rejections/resubmit/progress.json",
    )  # fmt: skip


@router.get("/rejections/resubmit/progress.json")
async def progress_json(request: Request) -> Response:
    """The same for programs."""
    return JSONResponse(_job(request).fields())


def _job(request: Request) -> Job:
    state = request.app.state
    if not hasattr(state, "resubmission"):
        state.resubmission = Job("resubmission")
    job: Job = state.resubmission
    return job


def _briefly(live: Live) -> Settings:
    _ = live.freshness  # 503 until Kafka was reached
    return live.settings.model_copy(update={"startup_wait_s": KAFKA_S})


def _may_write(request: Request, settings: Settings, form: dict[str, str]) -> None:
    """Raise Problem unless writes are on, the form comes from our own page, and who sends it knows the token."""
    if not settings.console_writes:
        raise Problem(403, "this console is read-only: WALLET_CONSOLE_WRITES is off")
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # Browsers say the site; an older one says the origin, unless our own policy makes it hide that, too.
    if (
        site != "same-origin"
        if site
        else origin not in {None, "null", f"{request.url.scheme}://{headers.get('host')}"}
    ):
        raise Problem(403, "nothing was sent: this form comes from another site")
    token = settings.console_token.get_secret_value() if settings.console_token else None
    if not shows(f"Bearer {form.get('token', '')}", token) and not shows(
        headers.get("authorization", ""), token
    ):
        raise Problem(401, "nothing was sent: the token is not this console's (WALLET_CONSOLE_TOKEN)")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "send the form as application/x-www-form-urlencoded")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_BYTES:
            raise Problem(413, f"the form has more than {FORM_BYTES} bytes", {"Connection": "close"})
    found: dict[str, list[str]] = parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=20)
    return {name: values[-1] for name, values in found.items()}
