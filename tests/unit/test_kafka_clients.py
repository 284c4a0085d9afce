"""Who makes clients of Kafka: `topics/`, the worker in `streams/`, and outside of these only who is named here."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENTS = {"Consumer", "Producer", "AdminClient", "AIOKafkaConsumer", "AIOKafkaProducer"}
ROOMS = ("config", "schemas", "vitals", "sinks", "operations", "local", "audit")
#: A sink joins its group, senders send, and what waits for a server that it has just started has no settings yet.
EXCEPTIONS = {
    "sinks/topic.py": {"Consumer"},
    "schemas/producer.py": {"Producer"},
    "operations/sending/delivery.py": {"Producer"},
    "operations/sending/exactly_once.py": {"Producer"},
    "operations/rebuild/place.py": {"Producer"},
    "operations/setup/init.py": {"Producer"},
    "local/broker.py": {"AdminClient"},
}


def _made_in(path: Path) -> set[str]:
    """The clients that a module makes, by the names of their classes."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    names = (func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls)
    return CLIENTS.intersection(names)


def test_no_other_module_makes_a_client_of_kafka() -> None:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): made for path in paths if (made := _made_in(path))}
    assert found == EXCEPTIONS
