"""The input of a rebuild: check that it is whole, find its ends, and make the copy's topic and subjects."""

from config.errors import NotReachable, Refused
from config.logs import EventLog
from operations.rebuild.place import Place
from operations.setup.init import create, settled
from schemas.registry_api import Declined, NotFound, Registry, RegistryAway
from topics.cluster import FoundTopic, describe, input_bytes, offsets
from topics.names import ANY_TIME, FOR_EVER, GROWTH_BYTES, KAFKA_MESSAGE_BYTES, TopicSpec

log = EventLog("operations.rebuild")


def refuse_holes(place: Place) -> None:
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


def input_ends(place: Place) -> dict[int, int]:
    """The current read-committed end of each partition of the live input."""
    found = offsets(place.client, {place.input: place.live.partitions})
    return {at: one.end for (_, at), one in found.items()}


def make_topic(place: Place) -> bool:
    """Create the shadow's input on CreateTime, until `switch`; returns whether it was created."""
    topic = place.shadow.input or ""
    if topic in describe(place.client, [topic]):
        return False
    accepted = input_bytes(place.live, describe(place.client, [place.input])) or 0
    records = max(place.live.max_record_bytes, place.shadow.max_record_bytes)
    sizes = {"max.message.bytes": str(max(accepted, KAFKA_MESSAGE_BYTES, records) + GROWTH_BYTES)}
    spec = TopicSpec(topic, place.shadow.partitions, FOR_EVER | ANY_TIME | sizes)
    create(place.client, [spec], place.shadow.replication)
    found: dict[str, FoundTopic] = settled(place.client, (topic,))
    if topic not in found:
        raise NotReachable(f"Kafka did not create topic {topic} in time: run it again")
    return True


def list_schemas(place: Place, known: set[int] | None = None) -> int:
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
