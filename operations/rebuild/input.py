"""The input of a rebuild: check that it is whole, find its ends, make the copy's topic, take over the schema ids."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace

from config.errors import NotReachable, Refused
from config.logs import EventLog
from operations.rebuild.place import Rebuild
from operations.setup.init import create
from operations.verify.cut import cuts
from schemas.accepted import Accepted
from schemas.registry_api import Declined, NotFound, Registry, RegistryAway
from streams.accepted import own, read_accepted
from topics.cluster import describe, input_bytes, offsets, read_pipeline
from topics.exactly_once import ExactlyOnce
from topics.names import ANY_TIME, FOR_EVER, GROWTH_BYTES, KAFKA_MESSAGE_BYTES, Topics, TopicSpec

log = EventLog("operations.rebuild")


def refuse_holes(place: Rebuild) -> None:
    """Raise Refused if records are missing from the live input: the fold would give other results."""
    config = describe(place.client, [place.input])[place.input].config
    if "compact" in config.get("cleanup.policy", ""):
        raise Refused(
            f"{place.input} has cleanup.policy={config['cleanup.policy']}: records may be missing anywhere in it, "
            "so it cannot be rebuilt"
        )
    for (_, at), found in offsets(place.client, {place.input: place.live.partitions}).items():
        if found.begin > 0:
            raise Refused(
                f"{place.input} partition {at} begins at offset {found.begin}: the records before it were deleted, "
                "so it cannot be rebuilt"
            )
    for name in ("retention.ms", "retention.bytes"):
        if config.get(name, "-1") != "-1":
            log.warning("retention", topic=place.input, setting=f"{name}={config[name]}")


def input_ends(place: Rebuild) -> dict[int, int]:
    """The current read-committed end of each partition of the live input."""
    found = offsets(place.client, {place.input: place.live.partitions})
    return {at: one.end for (_, at), one in found.items()}


def make_topic(place: Rebuild) -> bool:
    """Create the shadow's input on CreateTime, until `switch`; returns whether it was created."""
    topic = place.shadow.input or ""
    if topic in describe(place.client, [topic]):
        return False
    accepted = input_bytes(place.live, describe(place.client, [place.input])) or 0
    records = max(place.live.max_record_bytes, place.shadow.max_record_bytes)
    sizes = {"max.message.bytes": str(max(accepted, KAFKA_MESSAGE_BYTES, records) + GROWTH_BYTES)}
    spec = TopicSpec(topic, place.shadow.partitions, FOR_EVER | ANY_TIME | sizes)
    create(place.client, [spec], place.shadow.replication)
    return True


def list_schemas(place: Rebuild, known: set[int] | None = None) -> int:
    """Register for the copy the schemas of the live input's subject, or their records would be UNDECODABLE there.

    Skips versions in `known` and adds to it. Returns how many were registered, 0 without a registry. Raises Refused
    if the registry gives a schema another id or declines it, NotReachable if it does not answer.
    """
    registry = Registry.of(place.live)
    if registry is None or not place.copied:
        return 0
    known = set() if known is None else known
    before, after = f"{place.input}-value", f"{place.shadow.input}-value"
    count = 0
    try:
        for number in registry.versions(before):
            if number in known:
                continue
            version = registry.version(before, number)
            if registry.register(after, version.text, version.references) != version.schema_id:
                raise Refused(
                    f"{registry.url} gives version {number} of {before} another id in {after}: records of the copy "
                    "would not decode; rebuild with the same partitions"
                )
            known.add(number)
            count += 1
    except (Declined, NotFound) as error:
        raise Refused(
            f"{registry.url} does not register the schemas of {before} in {after}: {error}"
        ) from error
    except RegistryAway as error:
        raise NotReachable(f"no registry: {error}; run it again to continue") from error
    return count


def take_ids_over(place: Rebuild) -> None:
    """Write the accepted ids to the shadow's pipeline topic, for partitions that its worker has not started.

    Otherwise that worker would ask the registry, whose versions come and go, about records that the live one decided
    long ago.
    Over the same input, these are the ids of the same partition of the live pipeline, and no others up to where that
    one is. A copy has other offsets: there, an id accepted in any partition is accepted in all, from the first record
    on. Either all of it is written or nothing.
    """
    if place.live.registry is None:
        return
    pipeline = read_pipeline(place.shadow)
    if pipeline is None:
        raise Refused(
            f"topic {Topics.of(place.shadow).pipeline} holds no pipeline record: run `wallet rebuild start` again"
        )
    there = read_accepted(place.shadow)
    decided = {
        cut.partition: cut.source for cut in cuts(place.shadow, place.client, range(pipeline.partitions))
    }
    new = [at for at, source in decided.items() if source == 0 and at not in there]
    # 1. How far the live pipeline is, 2. its accepted ids: in this order, none that matters before 1. is missed.
    handled = {
        cut.partition: cut.source for cut in cuts(place.live, place.client, range(place.live.partitions))
    }
    kept = read_accepted(place.live)
    foreign = {
        at: {one.schema_id: one for one in ids if one.schema_id != pipeline.transaction_schema_id}
        for at, ids in kept.items()
    }
    records: list[Accepted] = []
    if place.copied:
        anywhere = {schema_id: one for ids in foreign.values() for schema_id, one in ids.items()}
        for at in new:
            records += [own(pipeline, at, 0), *_in(at, anywhere.values(), from_offset=0)]
    else:
        for at in new:
            if at in kept:  # otherwise an older release wrote there, and its worker asks the registry
                records += [own(pipeline, at, handled[at]), *_in(at, foreign[at].values())]
    if records:
        _write(place, records)


def _in(partition: int, ids: Iterable[Accepted], from_offset: int | None = None) -> list[Accepted]:
    return [
        replace(
            one,
            partition=partition,
            from_offset=one.from_offset if from_offset is None else from_offset,
            complete_to=None,
        )
        for one in ids
    ]


def _write(place: Rebuild, records: list[Accepted]) -> None:
    writer = ExactlyOnce(
        place.shadow,
        f"{place.shadow.prefix}-init",
        place.shadow.group,
        taken_over="another command makes this shadow",
        again="run it again to continue",
    )
    with closing(writer):
        writer.open()
        pipeline = Topics.of(place.shadow).pipeline
        writer.write(pipeline, ((one.to_json(), one.key, 0, 0, ()) for one in records), ())
