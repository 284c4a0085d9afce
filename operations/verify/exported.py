"""`wallet verify --export`: the report as one JSON file, to compare on another machine.

`certified` holds what two audits of the same pipeline up to the same offsets share, and `seal` is its SHA-256: the
same seal means the same outcomes, to the byte.
"""

import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from confluent_kafka import libversion

from audit.report import Report
from config.errors import ConfigurationError
from config.folders import written_whole
from config.times import rfc3339
from operations.cli.output import as_line

FORMAT = 1
PACKAGES = ("wallet-ledger", "aiokafka", "confluent-kafka", "fastavro", "numpy", "psycopg", "rocksdict")
#: Fields of a partition that two audits share.
COMPARED = (
    "partition",
    "from_offset",
    "to_offset",
    "records",
    "entries",
    "rejections",
    "snapshots",
    "amount",
    "entries_hash",
    "rejections_hash",
)


def refuse_unwritable(path: Path) -> None:
    """Raise ConfigurationError if the file cannot be created, before hours of work for it."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigurationError(f"--export {path} cannot be written: name a file in an existing folder")


def write(report: Report, cluster: str, topic_id: str, path: Path) -> None:
    """Write the file atomically."""
    certified: dict[str, Any] = {
        "prefix": report.prefix,
        "cluster": cluster,
        "topic_id": topic_id,
        "policy": report.policy,
        "clean": report.clean,
        "partitions": [{name: asdict(one)[name] for name in COMPARED} for one in report.covered],
    }
    told = {
        "format": FORMAT,
        "at": rfc3339(datetime.now(UTC)),
        "versions": {
            "python": platform.python_version(),
            "librdkafka": libversion()[0],
            **{name: version(name) for name in PACKAGES},
        },
        "certified": certified,
        "seal": sha256(json.dumps(certified, sort_keys=True).encode()).hexdigest(),
        "report": json.loads(as_line(report.to_json())),
    }
    with written_whole(path) as out:
        json.dump(told, out, indent=1)
        out.write("\n")
