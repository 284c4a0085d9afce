"""docs/api/asyncapi.yaml: as the code makes it, and valid AsyncAPI."""

import copy
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from schemas.versions import NAMES, schema_text
from tests import asyncapi

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "api" / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(KEPT.read_text("utf-8"))
#: Of the npm package @asyncapi/specs (Apache 2.0): `schemas/3.0.0-without-$id.json`, without its spaces.
VALIDATOR = Draft7Validator(
    json.loads((ROOT / "tests" / "vendored" / "asyncapi-3.0.0.schema.json").read_text())
)


def test_what_is_kept_is_what_the_code_makes() -> None:
    assert KEPT.read_text("utf-8") == asyncapi.text(), (
        "write it anew: python -m tests.asyncapi > docs/api/asyncapi.yaml"
    )


def test_it_is_valid() -> None:
    assert [
        f"{'/'.join(map(str, error.path))}: {error.message}" for error in VALIDATOR.iter_errors(DOCUMENT)
    ] == []


@pytest.mark.parametrize("where", ["info", "channels", "operations"])
def test_the_validator_sees_what_is_wrong(where: str) -> None:
    broken = copy.deepcopy(DOCUMENT)
    broken[where]["no such field"] = 1
    assert [*VALIDATOR.iter_errors(broken)]


def test_every_reference_leads_somewhere() -> None:
    def check(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                found = DOCUMENT
                for step in node["$ref"].removeprefix("#/").split("/"):
                    found = found[step]
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(DOCUMENT)


def test_its_schemas_are_those_that_are_released() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        released = [json.loads(schema_text(name)) for name in NAMES]
        assert schema["schema"] in released
        fastavro.parse_schema(schema["schema"])


def test_it_has_every_topic_that_others_read_or_write() -> None:
    addresses = {channel["address"].format(prefix="wallet") for channel in DOCUMENT["channels"].values()}
    assert addresses == {f"wallet.{name}" for name in asyncapi.TOPICS}
    assert DOCUMENT["channels"]["balances"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == [
        "compact"
    ]
