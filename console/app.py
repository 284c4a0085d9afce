"""The application: routes, problems, and what it opens at the start and closes at the end."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from config.logs import EventLog
from config.settings import Settings
from console import api, models, pages, rebuilding, resubmitting
from console.database import Database
from console.guard import Guard
from console.jobs import Question
from console.live import Live
from console.metrics import route_of
from console.problems import Problem

log = EventLog("console")

POSTING = "/api/v1/transactions"
_USUAL_WAIT = re.compile(rb"(?:wait_s=(\d{1,2}(?:\.\d{1,3})?))?")
_USUAL_OUTCOME = re.compile(r"/api/v1/outcomes/([0-9]{1,10})/([0-9]{1,19})")

DESCRIPTION = (
    "Wallets, balances, statements and outcomes. int64 (amounts, balances, sequences, offsets) are strings, times are "
    "RFC 3339 in UTC, positions are `partition:offset` of the input. `complete_until` says what an answer stands for: "
    "every input record below its positions is in the tables. Errors are RFC 9457 problems."
)


def application(settings: Settings) -> tuple[FastAPI, ASGIApp]:
    """The application, and the same behind its guard, which is the one to serve."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        database = Database(settings)
        live = Live(settings, database)
        app.state.live = live
        await database.open()
        await live.open()
        try:
            yield
        finally:
            await live.close()
            await database.close()

    app = FastAPI(
        title="wallet",
        version="1",
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        # An address has no slash at its end: it would be an empty id, and the proxy in front has another name.
        redirect_slashes=False,
        lifespan=life,
    )
    app.openapi = partial(_document, app)  # type: ignore[method-assign] # as FastAPI's manual has it
    app.include_router(api.router)
    app.state.jobs = {}
    app.state.dry_runs = Question(
        "a dry run of resubmitting",
        resubmitting.DRY_RUN_S,
        "choose fewer, or use `wallet rejections resubmit`",
    )
    app.state.looks_at_rebuild = Question(
        "a look at the rebuild", rebuilding.LOOK_S, "use `wallet rebuild status`"
    )
    app.include_router(resubmitting.router)
    app.include_router(rebuilding.router)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    return app, Guard(Shortcut(app), settings)


class Shortcut:
    """Answers what many ask for: the framework's way to these functions costs three times what they do.

    Whatever is unusual goes to the framework, which has the same functions and says what is wrong.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        routes = {getattr(route, "endpoint", None): route for route in api.router.routes}
        self._posting, self._asking = routes[api.post], routes[api.outcome]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        asked = usual(scope) if scope["type"] == "http" else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        scope["app"], scope["route"] = self._app, self._posting if asked.source is None else self._asking
        request, live = Request(scope, receive), self._app.state.live
        try:
            if asked.source is None:
                response = await api.post(request, live, asked.wait_s)
            else:
                response = await api.outcome(live, *asked.source, asked.wait_s)
        except Problem as problem:
            response = problem.response()
        except Exception as failure:  # noqa: BLE001 - as the framework would
            response = await _unexpected(request, failure)
        await response(scope, receive, send)


class Usual(NamedTuple):
    """A request that takes the shortcut: how long it may wait for an outcome, and of which record, if not its own."""

    wait_s: float
    source: tuple[str, str] | None = None


def usual(scope: Scope) -> Usual | None:
    """A POST of a transaction, or a question for an outcome; None if the framework has to look at the request."""
    wait = _USUAL_WAIT.fullmatch(scope["query_string"])
    wait_s = float(wait[1] or 0) if wait else api.MOST_WAIT_S + 1
    if wait_s > api.MOST_WAIT_S:
        return None
    if scope["method"] == "POST" and scope["path"] == POSTING:
        return Usual(wait_s)
    if scope["method"] == "GET" and (of := _USUAL_OUTCOME.fullmatch(scope["path"])):
        return Usual(wait_s, (of[1], of[2]))
    return None


def openapi(settings: Settings) -> dict[str, Any]:
    """The OpenAPI document, as it is served and kept in docs/api/openapi.json."""
    return application(settings)[0].openapi()


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document with our problems instead of its own, and with the token as security scheme."""
    document = FastAPI.openapi(app)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["ProblemFields"] = models.ProblemFields.model_json_schema()
    for path in document["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return document


def _answer(request: Request, problem: Problem) -> Response:
    """A problem, as a page if the client wants pages."""
    if request.url.path.startswith("/api/") or request.url.path.endswith(".json"):
        return problem.response()
    return pages.problem(request, problem)


async def _problem(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, Problem)  # noqa: S101 - it is registered for these
    return _answer(request, failure)


async def _invalid(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, RequestValidationError)  # noqa: S101 - it is registered for these
    first = failure.errors()[0]
    name = str(first["loc"][-1])[:60]
    return _answer(request, Problem(400, f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}"))


async def _http(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)  # noqa: S101 - it is registered for these
    told = {404: "there is nothing at this address", 405: "this address needs another method"}
    detail = told.get(failure.status_code, str(failure.detail))
    return _answer(request, Problem(failure.status_code, detail, dict(failure.headers or {})))


async def _unexpected(request: Request, failure: Exception) -> Response:
    log.failure("request_failed", failure, method=request.method, route=route_of(request.scope))
    return _answer(request, Problem(500, "an error of ours: see the console's log"))
