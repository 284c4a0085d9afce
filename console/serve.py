"""`wallet console`: serve until told to stop."""

import logging
import resource
import socket
from contextlib import suppress

import typer
import uvicorn

from config.errors import ConfigurationError
from config.logs import EventLog
from config.settings import Settings
from console import guard
from console.app import application
from console.metrics import ConsoleReport
from vitals.collecting import few_collections
from vitals.ending import END_S, end_within, ended_by, on_order
from vitals.health import reported

log = EventLog("console")

#: Connections that the system queues.
BACKLOG = 2_048
#: Connections in addition to waiting requests and live feeds; further ones get 503.
OTHERS = 1_000
#: Seconds that running requests get at the end.
GRACE_S = 3


def run(settings: Settings) -> int:
    """Serve; returns the exit code.

    Raises ConfigurationError if others could get in, or a port is taken.
    """
    guard.check(settings)
    app, guarded = application(settings)
    with _listening(settings) as listener, reported(settings, ConsoleReport(settings, app)):
        host, port = settings.console_host, listener.getsockname()[1]
        server = uvicorn.Server(
            uvicorn.Config(
                guarded,
                http="httptools",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                backlog=BACKLOG,
                limit_concurrency=settings.console_waiting + settings.console_feeds + OTHERS,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        # The application logs failures within requests.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        signals = on_order(lambda _: None)  # uvicorn raises the signal again when it has ended
        shown = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        typer.echo(f"console {shown}{'' if settings.console_writes else ' (read-only)'}")
        log.info("listening", address=shown, writes=settings.console_writes)
        with few_collections():
            server.run([listener])
    end_within(END_S, lambda: None, ended_by(signals))
    return ended_by(signals)


def _listening(settings: Settings) -> socket.socket:
    _allow_many_connections(settings)
    host = settings.console_host
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, settings.console_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as failure:
        raise ConfigurationError(
            f"cannot listen on {host}:{settings.console_port} ({failure.strerror}): set WALLET_CONSOLE_PORT to another "
            "port, or to 0 for any free one"
        ) from None
    return listener


def _allow_many_connections(settings: Settings) -> None:
    """Raise the limit of open files: each waiting request is one."""
    wanted = settings.console_waiting + settings.console_feeds + OTHERS + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
