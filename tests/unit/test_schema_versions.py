"""Every released version of a schema stays compatible with all others, and its bytes stay readable."""

import json
from hashlib import sha256
from io import BytesIO
from itertools import permutations
from pathlib import Path
from typing import Any

import fastavro
import pytest

from schemas.codec import DECODERS
from schemas.versions import NAMES, SchemaName, schema_text, versions

GOLDEN = Path(__file__).parent / "golden"
RELEASED = [(name, version) for name in NAMES for version in versions(name)]
#: Of each released version, written when it was released.
FINGERPRINTS: dict[tuple[SchemaName, int], str] = {
    ("transaction", 1): "ab923373bfa7a92b67c26f53db121b5b0c0b838d32bc5864628a1408a3c56300",
    ("ledger_entry", 1): "3082ca556dcc10e463cf5d342629070f4b36c2fb521c0f99c2afd141b30ab3d2",
    ("balance", 1): "65c2909f2048387f2355587c8d4467049372eb8456b5a58fdc2bfb6fe0ddb96d",
    ("snapshot", 1): "48eb983d6bf03956f1e9116e7b6a8f56dbf77d47c3448dc93d14de46dd0a5dec",
}


def schema(name: SchemaName, version: int) -> Any:
    return json.loads(schema_text(name, version))


def golden(name: SchemaName, version: int) -> list[dict[str, Any]]:
    """Bodies in hex with the record that each is, written when the version was released."""
    cases = json.loads((GOLDEN / f"{name}_v{version}.json").read_text(encoding="utf-8"))
    assert cases, f"no golden bytes of {name} version {version}"
    return list(cases)


def incompatible(writer: Any, reader: Any) -> list[str]:
    """What keeps the reader's schema from reading the writer's bytes: Avro's rules, for what we use of it.

    Stricter than Avro where it costs nothing: types do not change at all.
    """
    if isinstance(writer, dict) and isinstance(reader, dict) and writer["type"] == reader["type"] == "record":
        written = {field["name"]: field["type"] for field in writer["fields"]}
        found = [] if writer["name"] == reader["name"] else [f"{writer['name']} is now {reader['name']}"]
        for field in reader["fields"]:
            if field["name"] in written:
                found += incompatible(written[field["name"]], field["type"])
            elif "default" not in field:
                found.append(f"{field['name']} has no default")
        return found
    if isinstance(writer, dict) and isinstance(reader, dict) and writer["type"] == reader["type"] == "enum":
        lost = set(writer["symbols"]) - set(reader["symbols"])
        return [f"{writer['name']} lost {sorted(lost)}"] if lost and "default" not in reader else []
    return [] if without_docs(writer) == without_docs(reader) else [f"{writer} is now {reader}"]


def without_docs(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: without_docs(value) for name, value in part.items() if name != "doc"}
    return [without_docs(value) for value in part] if isinstance(part, list) else part


def test_all_four_schemas_have_a_first_version_and_no_gap() -> None:
    for name in NAMES:
        assert versions(name) == tuple(range(1, len(versions(name)) + 1)), name


@pytest.mark.parametrize(("name", "version"), RELEASED)
def test_every_version_has_a_decoder_that_reads_its_golden_bytes(name: SchemaName, version: int) -> None:
    for case in golden(name, version):
        assert (
            json.loads(json.dumps(shown(DECODERS[name, version](bytes.fromhex(case["body"])))))
            == case["record"]
        )


@pytest.mark.parametrize(("name", "version"), RELEASED)
def test_golden_bytes_are_read_with_every_version_as_reader(name: SchemaName, version: int) -> None:
    writer = fastavro.parse_schema(schema(name, version))
    for case in golden(name, version):
        for other in versions(name):
            reader = fastavro.parse_schema(schema(name, other))
            body = BytesIO(bytes.fromhex(case["body"]))
            assert fastavro.schemaless_reader(body, writer, reader)
            assert not body.read()


def test_a_released_version_is_as_it_was_released() -> None:
    """A change of one is seen here, where a comparison with the versions that are there would agree with itself."""
    assert {one: fingerprint(schema(*one)) for one in RELEASED} == FINGERPRINTS


def fingerprint(released: Any) -> str:
    return sha256(json.dumps(without_docs(released), sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_every_version_reads_what_every_other_wrote(name: SchemaName) -> None:
    """And what comes after the newest, if it is made as `schemas.versions` says."""
    coming = schema(name, versions(name)[-1])
    coming["fields"].append({"name": "coming", "type": "long", "default": 0})
    every = [*(schema(name, version) for version in versions(name)), coming]
    assert [incompatible(writer, reader) for writer, reader in permutations(every, 2)] == [
        [] for _ in permutations(every, 2)
    ]
    del coming["fields"][-1]["default"]
    assert [incompatible(writer, coming) for writer in every[:-1]] == [["coming has no default"]] * len(
        every[:-1]
    )


def balance_with(**changes: Any) -> Any:
    """Version 1 of Balance with its second field changed."""
    changed = schema("balance", 1)
    changed["fields"][1] |= changes
    return changed


@pytest.mark.parametrize(
    ("changed", "problems"),
    [
        (balance_with(name="unit"), ["currency has no default", "unit has no default"]),
        (balance_with(type="bytes"), ["bytes is now string", "string is now bytes"]),
        (balance_with(doc="other words"), []),
    ],
)
def test_the_compatibility_rules_of_these_tests_find_what_they_should(
    changed: Any, problems: list[str]
) -> None:
    released = schema("balance", 1)
    assert sorted(incompatible(changed, released) + incompatible(released, changed)) == sorted(problems)


def test_a_symbol_that_is_lost_is_incompatible() -> None:
    lost = json.loads(schema_text("snapshot", 1).replace('"INTERVAL",', ""))
    assert incompatible(schema("snapshot", 1), lost) == ["SnapshotReason lost ['INTERVAL']"]
    assert incompatible(lost, schema("snapshot", 1)) == []


@pytest.mark.parametrize(("name", "version"), RELEASED)
def test_every_schema_field_and_named_type_says_what_it_is(name: SchemaName, version: int) -> None:
    def undocumented(part: Any, where: str) -> list[str]:
        if isinstance(part, list):
            return [found for inner in part for found in undocumented(inner, where)]
        if not isinstance(part, dict):
            return []
        here = f"{where}.{part.get('name', '')}"
        missing = [here] if "name" in part and not part.get("doc") else []
        return missing + undocumented(part.get("type"), here) + undocumented(part.get("fields", []), here)

    assert undocumented(schema(name, version), name) == []


def test_an_entry_holds_the_newest_transaction_in_full_as_its_first_field() -> None:
    entry = schema("ledger_entry", versions("ledger_entry")[-1])
    assert entry["fields"][0]["type"] == schema("transaction", versions("transaction")[-1])


def test_a_snapshot_is_a_balance_and_a_reason() -> None:
    of_snapshot = [(f["name"], f["type"]) for f in without_docs(schema("snapshot", 1))["fields"]]
    of_balance = [(f["name"], f["type"]) for f in without_docs(schema("balance", 1))["fields"]]
    assert of_snapshot[:-1] == of_balance
    assert of_snapshot[-1][0] == "reason"


def shown(value: Any) -> Any:
    """A record as the golden files have it: its fields by name, bytes in hex."""
    if hasattr(value, "_asdict"):
        return {name: shown(field) for name, field in value._asdict().items()}
    return value.hex() if isinstance(value, bytes) else value
