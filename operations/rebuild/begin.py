"""Make a prefix a shadow, once, and keep other commands off it meanwhile."""

from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import UTC, datetime

from config.errors import Refused
from config.folders import locked, private
from config.times import rfc3339
from operations.rebuild import record as rebuild_record
from operations.rebuild.place import POLICIES, Place
from operations.rebuild.record import Record
from sinks import shadow
from topics.cluster import describe


def begin(place: Place) -> Place:
    """Write the record that makes the prefix a shadow; raises Refused if anything else exists under it."""
    if place.record:
        if place.record.switched_at:
            raise Refused(
                f"{place.shadow.prefix!r} was switched to at {place.record.switched_at}: choose another --prefix"
            )
        return place
    there = describe(place.client, place.own_topics[:-1])
    if there:
        raise Refused(
            f"{', '.join(sorted(there))} exist but are not a shadow of {place.live.prefix!r}: choose another --prefix"
        )
    with closing(shadow.connect_shadow(place.shadow)) as connection:
        if found := shadow.tables(connection):
            raise Refused(
                f"the database of WALLET_REBUILD_POSTGRES is not empty ({', '.join(found[:5])}): create an empty one"
            )
    now = rfc3339(datetime.now(UTC))
    fixed = {name: getattr(place.shadow, name) for name in POLICIES}
    record = Record(place.live.prefix, place.input, place.input_id, place.database, fixed, now)
    rebuild_record.write(place.shadow, place.client, record)
    return replace(place, record=record)


def alone(place: Place) -> AbstractContextManager[None]:
    """Only one command at a time works on a shadow's folder; a second one is refused and told the first one's pid."""
    private(place.folder, "the shadow's folder, in WALLET_STATE_DIR,")
    return locked(
        place.folder / "lock",
        lambda process: Refused(
            f"process {process} is working on the shadow {place.shadow.prefix!r}: wait for it, or stop it"
        ),
    )
