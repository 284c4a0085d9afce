"""Schemathesis: whatever clients send to the API, each answer is as the OpenAPI document says, and none is a 5xx."""

import subprocess
from pathlib import Path

import pytest

from local.environment import environment
from local.stack import Addresses
from tests.conftest import CACHE
from tests.integration.consoles import TOKEN, scene_after_mixed_input

pytestmark = [pytest.mark.integration, pytest.mark.full]

#: pip brings it: it wants other versions of our libraries.
REQUIREMENTS = Path(__file__).with_name("schemathesis.txt")
FUZZ_S = 600
CHECKS = (
    "not_a_server_error",
    "content_type_conformance",
    "response_schema_conformance",
    "status_code_conformance",
)


def test_no_request_is_answered_with_a_fault_of_ours(addresses: Addresses, tmp_path: Path) -> None:
    fuzzer = environment(CACHE.expanduser(), "schemathesis", REQUIREMENTS, print) / "bin" / "st"
    with scene_after_mixed_input(addresses, tmp_path) as place:
        found = subprocess.run(
            [
                fuzzer, "run", f"{place.console.url}/api/v1/openapi.json", "--max-time", str(FUZZ_S),
                "--header", f"Authorization: Bearer {TOKEN}", "--checks", ",".join(CHECKS), "--max-examples", "100000",
                "--request-timeout", "40", "--workers", "2", "--continue-on-failure", "--no-color",
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=FUZZ_S + 300,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout
        place.console.process.check_runs()
