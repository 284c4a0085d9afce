"""Work that somebody waits for, and that is given up when nobody does any more."""

from threading import Event

from config.errors import Stopped

#: For work that is never given up.
NEVER = Event()


def go_on(stop: Event) -> None:
    """Raise Stopped once nobody waits for the answer."""
    if stop.is_set():
        raise Stopped("it was given up: nobody waits for the answer any more")
