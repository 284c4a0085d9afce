"""Who makes clients of Kafka: `topics/`, and Faust's transport; what is in `clients/` others use without the rest."""

import ast
from pathlib import Path

from tests.rooms import ROOMS

ROOT = Path(__file__).parents[2]
CLIENTS = {"Consumer", "Producer", "AdminClient", "AIOKafkaConsumer", "AIOKafkaProducer"}
#: All but the one that makes them.
OTHERS = [room for room in ROOMS if room != "topics"]


def _made_in(path: Path) -> set[str]:
    """The clients that a module makes, by the names of their classes."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    names = (func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls)
    return CLIENTS.intersection(names)


def test_no_other_module_makes_a_client_of_kafka() -> None:
    paths = [path for room in OTHERS for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): made for path in paths if (made := _made_in(path))}
    assert found == {"streams/faust/transport.py": {"AIOKafkaConsumer"}}
