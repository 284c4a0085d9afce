"""docker-compose.yml: valid to the tool that reads it, and careful where the tool does not look."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import ready
from config.settings import Settings
from tests.containers import KAFKA_IMAGE, POSTGRES_IMAGE

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = ("init", "worker", "sinks", "archive")


def compose() -> list[str]:
    """The compose tool of this machine, or a skipped test."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
        ):
            return command
    pytest.skip("neither `docker compose` nor docker-compose is installed")


def test_without_a_password_it_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    empty = tmp_path / "empty.env"
    empty.touch()
    command = [*compose(), "--env-file", str(empty), "config", "--quiet"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    assert done.returncode != 0
    assert "copy .env.example to .env" in done.stderr


def test_it_holds_the_whole_pipeline() -> None:
    assert set(SERVICES) == {"kafka", "registry", "postgres", *OURS}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_comes_back_and_keeps_its_logs_small(name: str) -> None:
    assert SERVICES[name]["restart"] == ("on-failure:3" if name == "init" else "unless-stopped")
    assert SERVICES[name]["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "init"])
def test_every_lasting_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["timeout"]
    assert check["retries"]


@pytest.mark.parametrize("name", ["worker", "sinks", "archive"])
def test_the_health_of_ours_is_told_with_its_reasons_and_not_put_off_by_each_start(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    port = SERVICES[name]["environment"]["WALLET_HTTP_PORT"]
    assert check["test"] == ["CMD", "python", "-m", f"wallet_ledger.app.{ready.__name__}", port]
    assert "start_period" not in check


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_has_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert ("cap_add" in service) == (name == "postgres")
    assert ("read_only" in service, "mem_limit" in service) == (name in OURS, name in OURS)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in OURS])
def test_images_are_of_one_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:[\d.]+", SERVICES[name]["image"])


def test_images_are_the_ones_that_tests_in_containers_use() -> None:
    assert SERVICES["kafka"]["image"] == KAFKA_IMAGE
    assert SERVICES["postgres"]["image"] == POSTGRES_IMAGE


@pytest.mark.parametrize("name", OURS)
def test_every_wallet_variable_is_a_setting(name: str) -> None:
    variables = {key for key in SERVICES[name]["environment"] if key.startswith("WALLET_")}
    assert variables <= {f"WALLET_{field.upper()}" for field in Settings.model_fields}


def test_every_variable_of_the_example_is_used() -> None:
    names = re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    text = (ROOT / "docker-compose.yml").read_text()
    assert names
    assert [name for name in names if f"${{{name}" not in text] == []


def test_the_compose_tool_accepts_it_and_a_dollar_in_the_password_of_the_example_stays_one(
    tmp_path: Path,
) -> None:
    example = (ROOT / ".env.example").read_text()
    # without quotes newer tools put a variable in the place of $word
    assert "POSTGRES_PASSWORD='change-me'" in example
    env = tmp_path / ".env"
    env.write_text(example.replace("change-me", "pa$word$$"))
    command = [*compose(), "--env-file", str(env), "config"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    printed = done.stdout.replace("$$", "$")  # it can be read in again, so each $ is doubled
    services = yaml.safe_load(printed)["services"]
    assert services["sinks"]["environment"]["PGPASSWORD"] == "pa$word$$"
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "pa$word$$"  # noqa: S105


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        secrets = [str(value) for key, value in service["environment"].items() if "PASSWORD" in key]
        assert all(value.startswith("${") for value in secrets)


@pytest.mark.parametrize("name", ["kafka", "postgres", "worker"])
def test_what_must_last_is_on_a_named_volume(name: str) -> None:
    assert [volume.split(":")[0] for volume in SERVICES[name]["volumes"]] in (
        ["kafka"],
        ["postgres"],
        ["state"],
    )


@pytest.mark.parametrize("name", ["worker", "sinks", "archive"])
def test_nothing_runs_before_init_is_through(name: str) -> None:
    assert SERVICES[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}


def test_the_image_has_every_package_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = project["tool"]["setuptools"]["packages"]
    packages = {name.removeprefix("wallet_ledger.app.").split(".")[0] for name in listed}
    copied = set(re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    let_through = set(re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == packages
    assert packages <= let_through


def test_the_image_does_not_run_as_root_and_installs_from_the_lock_only() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users[-1:] == ["USER wallet"]
    installs = [line for line in lines if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs)
