"""The topics as an AsyncAPI document, made of what the code knows of them.

`python -m tests.asyncapi > docs/api/asyncapi.yaml` writes it anew.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import yaml

from config.settings import Settings
from schemas.records import Reason
from schemas.versions import FIXED_IDS, NAMES, SchemaName, schema_text, versions
from topics.cluster import specs
from topics.rejections import APPENDED

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
#: Versions of AsyncAPI's bindings for Kafka.
BINDING = "0.5.0"
PREFIX = "{prefix}"
#: What AsyncAPI's binding of a topic can say of its settings, and how.
SHOWN: dict[str, Callable[[str], object]] = {
    "cleanup.policy": lambda text: [text],
    "retention.ms": int,
    "retention.bytes": int,
    "max.message.bytes": int,
}

FRAME = (
    "The value is in the Confluent wire format: byte 0x00, the schema id in 4 bytes, big endian, then the Avro body. "
    "Without a schema registry the id is {id}; with one, the subject is `<topic>-value`."
)
PARTITION = (
    "The partition is Java's murmur2 of the key, modulo the number of partitions (librdkafka: "
    "`partitioner=murmur2_random`), which is the same in all topics but `pipeline`."
)
WRITTEN = "Written in Kafka transactions: read it with isolation.level=read_committed."
CAUSED = "A record of partition p of the input causes records in partition p only."
KEY = {"type": "string", "minLength": 1, "maxLength": 128, "description": "The wallet_id, as UTF-8."}

#: By topic: message, what it holds, and who does what.
TOPICS: dict[str, tuple[SchemaName | None, str, str]] = {
    "transactions": (
        "transaction",
        "What upstream asks wallets to post.",
        "The input. Each record that is committed here becomes exactly one record of ledger or rejections.",
    ),
    "ledger": (
        "ledger_entry",
        "Every accepted transaction, in its wallet's sequence.",
        f"{WRITTEN} {CAUSED}",
    ),
    "balances": (
        "balance",
        "The newest balance of each wallet.",
        f"Compacted: the newest record of a key counts. {WRITTEN} {CAUSED}",
    ),
    "snapshots": (
        "snapshot",
        "Balances brought forward, so that a past one needs few entries.",
        f"{WRITTEN} {CAUSED}",
    ),
    "rejections": (
        None,
        "Every other record, as it came, with the reason.",
        f"{WRITTEN} {CAUSED}",
    ),
}


def document() -> dict[str, Any]:
    """The document; the topics' settings are those that `wallet init` gives them by default."""
    settings = Settings.model_construct()  # the defaults, whatever the environment says
    config = {spec.name.rpartition(".")[2]: spec.config for spec in specs(settings)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "wallet: topics",
            "version": "1",
            "description": (
                "The topics of a pipeline that other programs write and read. Names begin with the pipeline's prefix "
                "(WALLET_PREFIX). docs/topics-upstream.md and docs/topics-downstream.md say the rest. Made by "
                "tests/asyncapi.py from the .avsc files."
            ),
            "license": {"name": "Apache 2.0"},
        },
        "defaultContentType": "application/vnd.apache.avro",
        "servers": {
            "kafka": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "WALLET_KAFKA"},
        },
        "channels": {name: _channel(name, config[name]) for name in TOPICS},
        "operations": {
            ("postTransactions" if name == "transactions" else f"publish{name.capitalize()}"): {
                "action": "receive" if name == "transactions" else "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": "The worker reads this." if name == "transactions" else "The worker writes this.",
            }
            for name in TOPICS
        },
        "components": {
            "messages": {_message_name(name): _message(name) for name in TOPICS},
            "schemas": {_record(schema): _avro(schema) for schema in NAMES},
        },
    }


def _channel(name: str, config: dict[str, str]) -> dict[str, Any]:
    schema, summary, about = TOPICS[name]
    message = _message_name(name)
    return {
        "address": f"{PREFIX}.{name}",
        "summary": summary,
        "description": about if schema is None else f"{about} {PARTITION}",
        "parameters": {
            "prefix": {"default": "wallet", "description": "The pipeline's prefix (WALLET_PREFIX)."}
        },
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "bindingVersion": BINDING,
                "topicConfiguration": {
                    key: made(config[key]) for key, made in SHOWN.items() if key in config
                },
            }
        },
    }


def _message(name: str) -> dict[str, Any]:
    schema, summary, _ = TOPICS[name]
    if schema is None:
        return {
            "name": _message_name(name),
            "summary": summary,
            "description": (
                "Key, value and headers are those of the rejected record (TOO_LARGE: none of them), and after them "
                "six headers of the worker. They are the last six: upstream may send some of these names, too."
            ),
            "contentType": "application/octet-stream",
            "headers": _rejection_headers(),
            "bindings": {
                "kafka": {"bindingVersion": BINDING, "key": {"description": "As it came, or none."}}
            },
        }
    return {
        "name": _message_name(name),
        "summary": summary,
        "description": FRAME.format(id=getattr(FIXED_IDS, schema)),
        "contentType": "application/vnd.apache.avro",
        "payload": {"$ref": f"#/components/schemas/{_record(schema)}"},
        "bindings": {
            "kafka": {
                "bindingVersion": BINDING,
                "key": KEY,
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
            }
        },
    }


def _rejection_headers() -> dict[str, Any]:
    of: dict[str, dict[str, Any]] = {
        "rejection.reason": {"enum": [str(one) for one in Reason]},
        "rejection.detail": {"description": "For people; what is not printable ASCII is escaped."},
        "rejection.topic": {"description": "The topic that the record came from."},
        "rejection.partition": {"pattern": "^[0-9]+$"},
        "rejection.offset": {"pattern": "^[0-9]+$"},
        "rejection.at": {
            "pattern": "^-?[0-9]+$",
            "description": "The record's timestamp, in epoch milliseconds.",
        },
    }
    return {
        "type": "object",
        "required": [*APPENDED],
        "properties": {name: {"type": "string", **of[name]} for name in APPENDED},
    }


def _avro(schema: SchemaName) -> dict[str, Any]:
    return {"schemaFormat": AVRO, "schema": json.loads(schema_text(schema, versions(schema)[-1]))}


def _record(schema: SchemaName) -> str:
    name: str = json.loads(schema_text(schema))["name"]
    return name


def _message_name(topic: str) -> str:
    schema = TOPICS[topic][0]
    return "Rejection" if schema is None else _record(schema)


def text() -> str:
    """The document as it is kept."""
    return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    sys.stdout.write(text())
