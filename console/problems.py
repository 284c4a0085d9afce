"""Errors of the API: RFC 9457 problems, each with a sentence for its reader."""

from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - it is the name of RFC 9457
    """An answer that is a problem; `more` are further members of its object."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, headers, more

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase

    def fields(self) -> dict[str, Any]:
        """The members of the problem's object."""
        told = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        return told | self.more

    def response(self) -> JSONResponse:
        """The problem as a program reads it."""
        return JSONResponse(self.fields(), self.status, self.headers, MEDIA_TYPE)


def not_found(detail: str, **more: Any) -> Problem:
    """404."""
    return Problem(404, detail, **more)


def wrong(detail: str, **more: Any) -> Problem:
    """400."""
    return Problem(400, detail, **more)


def away(detail: str, **more: Any) -> Problem:
    """503: trying again in a moment may help."""
    return Problem(503, detail, {"Retry-After": "1"}, **more)
