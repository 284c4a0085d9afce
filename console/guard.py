"""Guards every request: who may ask, what a browser may do with the answer, undecoded paths and queries in UTF-8."""

import base64
import binascii
import hmac
import ipaddress
import time
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.errors import ConfigurationError
from config.settings import Settings
from console.metrics import count
from console.problems import Problem

#: Scripts, styles and requests of our own origin, nothing inline, in nobody's frame.
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(settings: Settings) -> None:
    """Raise ConfigurationError if others could read from, or write to, this console."""
    if settings.console_token is None and not is_loopback(settings.console_host):
        raise ConfigurationError(
            f"WALLET_CONSOLE_HOST {settings.console_host} is open to other machines: set WALLET_CONSOLE_TOKEN, "
            "or listen on 127.0.0.1"
        )
    if settings.console_token is None and settings.console_writes:
        raise ConfigurationError(
            "WALLET_CONSOLE_WRITES needs WALLET_CONSOLE_TOKEN: set it, 16 characters or more"
        )


class Guard:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._local = is_loopback(settings.console_host)
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        came_at = time.monotonic()

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(scope, message["status"], time.monotonic() - came_at)
                there = {name.lower() for name, _ in message["headers"]}
                more = [] if b"cache-control" in there else [(b"cache-control", b"no-store")]
                message["headers"] = [*message["headers"], *self._headers, *more]
            await send(message)

        if (problem := self._problem(scope) or _unreadable(scope)) is not None:
            await problem.response()(scope, receive, guarded)
            return
        # A wallet's id is one path segment: keep it encoded until its route is found.
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        scope["path"] = raw.decode("latin-1")
        await self._app(scope, receive, guarded)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if self._local:
            # DNS rebinding: another site's page whose name points to this machine must not read anything.
            host = headers.get(b"host", "")
            name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
            if name.lower() not in LOOPBACK_NAMES:
                return Problem(421, "this console answers to localhost and 127.0.0.1 only")
            return None
        # As a password, as browsers send it, the token is good for reading only.
        if not knows_token(self._settings, headers.get(b"authorization", ""), basic=True):
            return Problem(
                401, "send the token as `Authorization: Bearer` or as a password",
                {"WWW-Authenticate": 'Basic realm="wallet console", charset="UTF-8"'},
            )  # fmt: skip
        return None


def must_write(settings: Settings) -> None:
    """Raise Problem 403 unless writes are on."""
    if not settings.console_writes:
        raise Problem(403, "this console is read-only: WALLET_CONSOLE_WRITES is off")


def knows_token(settings: Settings, *authorizations: str, basic: bool = False) -> bool:
    """Whether one of these headers has this console's token; `basic`: also as a password."""
    token = settings.console_token
    return token is not None and any(
        _shows(one, token.get_secret_value(), basic=basic) for one in authorizations
    )


def _unreadable(scope: Scope) -> Problem | None:
    """A query that is not UTF-8: the framework would read U+FFFD there, which may be another wallet's id."""
    try:
        unquote_to_bytes(scope.get("query_string", b"")).decode()
    except UnicodeDecodeError:
        return Problem(400, "the query is not UTF-8")
    return None


def from_our_page(request: Request) -> None:
    """Raise Problem 403 for a form that a page of another site sent."""
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    # Browsers say the site; an older one says the origin, unless our own policy makes it hide that, too.
    if (
        site != "same-origin"
        if site
        else origin not in {None, "null", f"{request.url.scheme}://{headers.get('host')}"}
    ):
        raise Problem(403, "nothing was done: this form comes from another site")


def _shows(authorization: str, token: str, *, basic: bool) -> bool:
    """Whether this header has the token; compares in constant time."""
    scheme, _, shown = authorization.partition(" ")
    if basic and scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(shown.strip().encode(), token.encode())
