"""The input of a rebuild: whole, with its ends, and where it is copied the topic and the subjects of the copy."""

from config.errors import NotReachable, Refused
from config.logs import EventLog
from operations.rebuild.place import Place
from operations.setup.init import create, settled
from schemas.registry_api import Declined, NotFound, Registry, RegistryAway
from topics.cluster import FoundTopic, describe, input_bytes, offsets
from topics.names import ANY_TIME, FOR_EVER, GROWTH_BYTES, KAFKA_MESSAGE_BYTES, TopicSpec

log = EventLog("operations.rebuild")


def refuse_holes(place: Place) -> None:
    """Raise Refused where the live input lacks records: the same fold could not come out the same."""
    config = describe(place.client, [place.input])[place.input].config
    if "compact" in config.get("cleanup.policy", ""):
        raise Refused(
            f"{place.input} has cleanup.policy={config['cleanup.policy']}: records may be gone anywhere in it, "
            "so nothing can be rebuilt from it"
        )
    for (_, at), found in offsets(place.client, {place.input: place.live.partitions}).items():
        if found.begin > 0:
            raise Refused(
                f"{place.input} partition {at} begins at offset {found.begin}: records before it were deleted, so "
                "nothing can be rebuilt from it"
            )
    for name in ("retention.ms", "retention.bytes"):
        if config.get(name, "-1") != "-1":
            log.warning("retention", topic=place.input, setting=f"{name}={config[name]}")


def input_ends(place: Place) -> dict[int, int]:
    """The read-committed end of each partition of the live input, as of now."""
    found = offsets(place.client, {place.input: place.live.partitions})
    return {at: one.end for (_, at), one in found.items()}


def make_topic(place: Place) -> bool:
    """Create the shadow's input, on its producers' times until `switch`; True if it was not there."""
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
        raise NotReachable(f"Kafka did not make topic {topic} in time: run it again")
    return True


def list_schemas(place: Place, known: set[int] | None = None) -> int:
    """List for the copy what the live input's subject lists, or records of those schemas would be UNDECODABLE there.

    Versions in `known`, which is added to, are not asked for again; returns how many were listed, 0 without a
    registry. Raises Refused where the registry gives a schema another id or does not take it, NotReachable where
    it does not answer.
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
                    "would not be decoded; rebuild with the same partitions"
                )
            known.add(number)
            count += 1
    except (Declined, NotFound) as error:
        raise Refused(f"{registry.url} does not list the schemas of {before} in {after}: {error}") from error
    except RegistryAway as error:
        raise NotReachable(f"no registry: {error}; run it again, it goes on") from error
    return count
