"""Kafka Streams, in Java: built by Maven from `kafka-streams/`."""

from pathlib import Path

from benchmarks.rivals.rival import Ready, Rival
from local.jars import Jars, java, version_of
from local.server import Progress

HERE = Path(__file__).parent / "kafka-streams"
SCHEMAS = Path(__file__).parents[2] / "schemas"
JARS = Jars("Kafka Streams", HERE / "pom.xml", {"schemas": SCHEMAS})
#: Room for its heap, and the collector that did best on two cores, beside G1 and the parallel one.
JVM = ("-Xms512m", "-Xmx512m", "-XX:+UseSerialGC")

#: Avro makes objects of packages that it is told to trust only.
TRUSTED = "-Dorg.apache.avro.SERIALIZABLE_PACKAGES=wallet"


def prepare(cache: Path, progress: Progress) -> Ready:
    """Build it unless the cache has it."""
    runtime = java()
    jars = JARS.fetched(cache, progress, size_mb=90)
    settings = f"-Drival.settings={HERE / 'streams.properties'}"
    command = (str(runtime), *JVM, *quiet(), TRUSTED, settings, "-cp", f"{jars}/*", "rivals.Wallet")
    return Ready(command, {"Kafka Streams": version_of(jars, "kafka-streams-4")})


def quiet() -> tuple[str, ...]:
    """JVM options that make log4j2 tell warnings only."""
    return (f"-Dlog4j2.configurationFile={HERE.parent / 'log4j2.properties'}",)


RIVAL = Rival("Kafka Streams", "exactly once", 1_000_000, "{prefix}-balances-changelog", prepare)
