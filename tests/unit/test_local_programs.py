"""What the local stack says when a program that it needs is not there."""

from pathlib import Path

import pytest

from config.errors import ConfigurationError, NotReachable
from local.database import postgres_programs
from local.jars import check_programs, java, kafka_jars
from local.server import silent
from local.state import PORTS, State, free_port, is_free

LACKS_BOTH = (
    r"^the local stack needs Java 17 or newer and Maven \(it fetches Kafka\): install it, or run "
    r"everything in containers with `docker compose up`$"
)


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def test_all_that_lacks_is_named_in_one_line_with_both_ways_out(no_programs: Path) -> None:
    with pytest.raises(ConfigurationError, match=LACKS_BOTH):
        check_programs(no_programs)


def test_a_java_that_is_too_old_lacks(no_programs: Path) -> None:
    program(no_programs, "java", "echo 'openjdk version \"11.0.22\"' >&2")
    program(no_programs, "mvn", "exit 0")
    with pytest.raises(ConfigurationError, match="needs Java 17 or newer: "):
        check_programs(no_programs)


@pytest.mark.parametrize("version", ["17", "17.0.15", "21-ea", "25.0.1"])
def test_a_java_that_is_new_enough_is_taken(no_programs: Path, version: str) -> None:
    program(no_programs, "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")
    assert java() == no_programs / "java"


def test_java_home_comes_before_the_path(no_programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = no_programs / "jdk"
    (home / "bin").mkdir(parents=True)
    for folder in (no_programs, home / "bin"):
        program(folder, "java", "echo 'openjdk version \"21\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java() == home / "bin" / "java"


def test_a_fetch_that_fails_leaves_nothing_that_looks_done(no_programs: Path) -> None:
    program(no_programs, "mvn", "echo '[ERROR] no route to anywhere'; exit 1")
    cache = no_programs / "cache"
    with pytest.raises(NotReachable, match=r"Maven could not fetch Kafka: \[ERROR\] no route to anywhere$"):
        kafka_jars(cache, silent)
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_postgres_of_a_version_that_nobody_has_is_asked_for_by_its_number() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^PostgreSQL 99 is not installed: install it, or the wheel"
    ):
        postgres_programs(99)


def test_ports_are_kept_while_free_and_below_those_of_clients() -> None:
    chosen = State().with_free_ports(kafka=True, postgres=True)
    ports = {chosen.kafka_port, chosen.controller_port, chosen.postgres_port}
    assert len(ports) == 3
    assert all(port in PORTS for port in ports)
    assert chosen.with_free_ports(kafka=True, postgres=True) == chosen


def test_a_free_port_is_none_of_those_named() -> None:
    port = free_port(without=list(PORTS)[:-6000])
    assert port in list(PORTS)[-6000:]
    assert is_free(port)


def test_the_password_is_written_for_our_eyes_only_and_never_shown(tmp_path: Path) -> None:
    state, file = State(), tmp_path / "stack.json"
    state.save(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert State.load(file) == state
    assert state.password not in repr(state)
