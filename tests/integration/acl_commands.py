"""The `kafka-acls.sh` commands of docs/operations/acls.md, run as they stand there, without Kafka's own script.

Bash runs the block with a `kafka-acls.sh` that only writes down how it was called: starting Java for each of them
would take most of a minute. What was written down becomes the ACLs that Kafka's script would ask for.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "acls.md"
#: The first line of the block, and the line after it.
BEGIN, END = "acl() {", "```\n"

RESOURCES = {
    "--topic": ResourceType.TOPIC,
    "--group": ResourceType.GROUP,
    "--transactional-id": ResourceType.TRANSACTIONAL_ID,
}
#: As Kafka's script spells them; librdkafka has no name for all of Kafka's operations, and none is given that it lacks.
OPERATIONS = {
    "All": AclOperation.ALL,
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefixed": ResourcePatternType.PREFIXED}
_SCRIPT = """#!{python}
import json, sys
with open({calls!r}, "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def bindings(folder: Path, variables: Mapping[str, str]) -> list[AclBinding]:
    """The ACLs that the page's commands give, with these values of its variables."""
    return [binding for call in _calls(folder, variables) for binding in _bindings(call)]


def _calls(folder: Path, variables: Mapping[str, str]) -> list[list[str]]:
    folder.mkdir()
    calls, script = folder / "calls", folder / "kafka-acls.sh"
    script.write_text(_SCRIPT.format(python=sys.executable, calls=str(calls)))
    script.chmod(0o755)
    commands = BEGIN + PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    environment = {**variables, "PATH": f"{folder}:/usr/bin:/bin"}
    subprocess.run(["bash", "-euc", commands], env=environment, check=True, cwd=folder)
    return [json.loads(line) for line in calls.read_text().splitlines()]


def _bindings(call: Sequence[str]) -> list[AclBinding]:
    words = iter(call)
    principals, operations, resources, rest = [], [], [], []
    pattern = ResourcePatternType.LITERAL
    for word in words:
        if word in RESOURCES:
            resources.append((RESOURCES[word], next(words)))
        elif word == "--operation":
            operations.append(OPERATIONS[next(words)])
        elif word == "--allow-principal":
            principals.append(next(words))
        elif word == "--resource-pattern-type":
            pattern = PATTERNS[next(words)]
        elif word in {"--bootstrap-server", "--command-config"}:
            next(words)
        else:
            rest.append(word)
    assert rest == ["--add", "--force"], f"this test does not know {rest}"
    assert principals, "nobody is allowed anything"
    return [
        AclBinding(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)
        for principal, operation, (kind, name) in product(principals, operations, resources)
    ]
