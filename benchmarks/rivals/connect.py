"""Kafka Connect with Debezium's JDBC sink: built by Maven from `connect/`, its rows in a table of its own."""

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from benchmarks.rivals.kafka_streams import JVM, SCHEMAS, TRUSTED, quiet
from benchmarks.rivals.rival import Ready
from config.settings import Settings
from local.jars import Jars, java, version_of
from local.server import Progress
from local.state import free_port
from operations.cli.children import Child, Children
from sinks import postgres

NAME = "Kafka Connect, Debezium JDBC"
HERE = Path(__file__).parent / "connect"
JARS = Jars("Kafka Connect", HERE / "pom.xml", {"schemas": SCHEMAS})
TABLE = "rival_transactions"


def prepare(cache: Path, progress: Progress) -> Ready:
    """Build it unless the cache has it."""
    runtime = java()
    jars = JARS.fetched(cache, progress, size_mb=80)
    entry = "org.apache.kafka.connect.cli.ConnectStandalone"
    command = (str(runtime), *JVM, *quiet(), TRUSTED, "-cp", f"{jars}/*", entry)
    debezium = version_of(jars, "debezium-connector-jdbc")
    return Ready(command, {"Kafka Connect": version_of(jars, "connect-runtime"), "Debezium JDBC": debezium})


def group(prefix: str) -> str:
    """The consumer group of the connector."""
    return f"connect-{prefix}"


def create_table(settings: Settings) -> None:
    """The table that it writes to, in the database of these settings."""
    with postgres.connect(settings) as connection:
        connection.execute((HERE / "ledger.sql").read_bytes())


def start(
    children: Children, ready: Ready, settings: Settings, topic: str, prefix: str, folder: Path
) -> Child:
    """Let it write the entries of a topic to `TABLE`, from the beginning."""
    folder.mkdir(exist_ok=True)
    found = conninfo_to_dict(settings.postgres.get_secret_value())
    worker = {
        "bootstrap.servers": settings.kafka,
        "listeners": f"http://127.0.0.1:{free_port([])}",
        "offset.storage.file.filename": str(folder / "offsets"),
    }
    connector = {
        "name": prefix,
        "topics": topic,
        "connection.url": f"jdbc:postgresql://{found['host']}:{found['port']}/{found['dbname']}",
        "connection.username": str(found["user"]),
        "connection.password": str(found["password"]),
    }
    files = (_written(folder, "worker", worker), _written(folder, "ledger", connector))
    return children.start_command("connect", *ready.command, *map(str, files))


def _written(folder: Path, name: str, more: dict[str, str]) -> Path:
    file = folder / f"{name}.properties"
    text = (HERE / f"{name}.properties").read_text(encoding="utf-8")
    file.touch(mode=0o600)  # a password is in it
    file.write_text(
        text + "\n" + "".join(f"{key}={value}\n" for key, value in more.items()), encoding="utf-8"
    )
    return file
