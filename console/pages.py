"""Pages for people."""

from html import escape

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from console.problems import Problem

router = APIRouter(include_in_schema=False)


def problem(request: Request, told: Problem) -> Response:
    """A problem as a page."""
    return HTMLResponse(
        f"<h1>{escape(told.title)}</h1><p>{escape(told.detail)}</p>", told.status, told.headers
    )
