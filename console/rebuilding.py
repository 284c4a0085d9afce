"""A rebuild's shadow: how far it is, and what differs, as `wallet rebuild status` and `diff` tell it."""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from config.errors import WalletError
from config.settings import Settings
from console.api import OfConsole
from console.jobs import Job
from console.live import Live
from console.pages import page
from console.problems import away
from console.tables import Answer
from operations.rebuild import diff, status
from operations.rebuild.place import find

router = APIRouter(include_in_schema=False)

#: Wallets that differ and are shown; all are counted.
SHOWN = 50
#: Seconds for a look, and that Kafka and PostgreSQL get to answer.
LOOK_S, SERVERS_S = 20.0, 3.0


@router.get("/rebuild")
async def rebuild(
    request: Request, live: OfConsole, compare: Annotated[str, Query(max_length=10)] = ""
) -> Response:
    """The shadow's progress, and the newest comparison; `compare=now` begins one."""
    found = await _rebuild(request, live, begin=compare == "now")
    return page("rebuild.html", **found, prefix=live.settings.prefix, json="/rebuild.json")


@router.get("/rebuild.json")
async def rebuild_json(
    request: Request, live: OfConsole, compare: Annotated[str, Query(max_length=10)] = ""
) -> Response:
    """The same for programs."""
    return JSONResponse(await _rebuild(request, live, begin=compare == "now"))


async def _rebuild(request: Request, live: Live, *, begin: bool) -> Answer:
    state = request.app.state
    if not hasattr(state, "comparison"):
        state.comparison = Job("comparison")
    job: Job = state.comparison
    settings = live.settings
    if settings.rebuild_prefix is None or settings.rebuild_postgres is None:
        why = "no rebuild is set up for this console: set WALLET_REBUILD_PREFIX and WALLET_REBUILD_POSTGRES"
        return {"progress": None, "why": why, "comparison": job.fields()}
    _ = live.freshness  # 503 until Kafka was reached
    briefly = settings.model_copy(update={"startup_wait_s": SERVERS_S})
    try:
        async with asyncio.timeout(LOOK_S):
            progress = await asyncio.to_thread(_progress, briefly)
    except TimeoutError:
        raise away("the rebuild was not looked at in time") from None
    except WalletError as error:
        return {"progress": None, "why": str(error), "comparison": job.fields()}
    if begin:
        job.start({"shadow": settings.rebuild_prefix}, lambda _: _difference(briefly))
    return {"progress": progress, "why": None, "comparison": job.fields()}


def _progress(settings: Settings) -> Answer:
    found = status.look(find(settings, None))
    # Offsets and counts are strings, as everywhere in the API.
    steps = [
        {**asdict(one), "position": None if one.position is None else str(one.position),
         "end": str(one.end), "lag": str(one.lag)}
        for one in found.steps
    ]  # fmt: skip
    lags = {reader: str(lag) for reader, lag in found.lags().items()}
    return asdict(found) | {"steps": steps, "complete": found.complete, "lags": lags}


def _difference(settings: Settings) -> Answer:
    told: Answer = json.loads(json.dumps(diff.fields(diff.run(find(settings, None), SHOWN)), default=str))
    return told
