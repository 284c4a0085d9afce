"""A rebuild's shadow: how far it is, and what differs, as `wallet rebuild status` and `diff` tell it."""

import json
from dataclasses import asdict
from threading import Event

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from config.errors import WalletError
from config.settings import Settings
from console.api import OfConsole
from console.encoding import strings
from console.guard import from_our_page
from console.jobs import Question, job_of
from console.live import Live
from console.pages import page
from console.problems import wrong
from console.tables import Answer
from operations.rebuild import diff, status
from operations.rebuild.place import find

router = APIRouter(include_in_schema=False)

#: Wallets that differ and are shown; all are counted.
SHOWN = 50
#: Seconds for a look, and that Kafka and PostgreSQL get to answer.
LOOK_S, SERVERS_S = 20.0, 3.0
NOT_SET_UP = "no rebuild is set up for this console: set WALLET_REBUILD_PREFIX and WALLET_REBUILD_POSTGRES"


@router.get("/rebuild")
async def rebuild(request: Request, live: OfConsole) -> Response:
    """The shadow's progress, and the newest comparison."""
    found = await _rebuild(request, live)
    return page("rebuild.html", **found, prefix=live.settings.prefix, json="/rebuild.json")


@router.get("/rebuild.json")
async def rebuild_json(request: Request, live: OfConsole) -> Response:
    """The same for programs."""
    return JSONResponse(strings(await _rebuild(request, live)))


@router.post("/rebuild/compare")
async def compare(request: Request, live: OfConsole) -> Response:
    """Begin a comparison, unless one is in hand; the answer is the page that shows it."""
    from_our_page(request)
    if (briefly := _briefly(live)) is None:
        raise wrong(NOT_SET_UP)
    about = {"shadow": briefly.rebuild_prefix}
    job_of(request, "comparison").start(about, lambda _: _difference(briefly))
    return RedirectResponse("/rebuild", 303)


async def _rebuild(request: Request, live: Live) -> Answer:
    job = job_of(request, "comparison")
    if (briefly := _briefly(live)) is None:
        return {"progress": None, "why": NOT_SET_UP, "comparison": job.fields()}
    looks: Question[Answer] = request.app.state.looks_at_rebuild
    try:
        progress = await looks.ask(request, lambda stop: _progress(briefly, stop))
    except WalletError as error:
        return {"progress": None, "why": str(error), "comparison": job.fields()}
    return {"progress": progress, "why": None, "comparison": job.fields()}


def _briefly(live: Live) -> Settings | None:
    """The settings for a look; None where no rebuild is set up, Problem 503 until Kafka was reached."""
    settings = live.settings
    if settings.rebuild_prefix is None or settings.rebuild_postgres is None:
        return None
    _ = live.freshness
    return settings.model_copy(update={"startup_wait_s": SERVERS_S})


def _progress(settings: Settings, stop: Event) -> Answer:
    found = status.look(find(settings, None), stop)
    return asdict(found) | {"complete": found.complete, "lags": found.lags()}


def _difference(settings: Settings) -> Answer:
    told: Answer = json.loads(json.dumps(diff.fields(diff.run(find(settings, None), SHOWN)), default=str))
    return told
