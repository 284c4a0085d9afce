"""The local stack itself: real servers, started, lost and found again."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from config.errors import Refused
from config.settings import Settings
from local.server import Running, is_alive
from local.stack import Stack
from local.state import State
from tests.conftest import IN_CONTAINERS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(IN_CONTAINERS, reason="about the local stack"),
]


@pytest.fixture(scope="module")
def filled(servers_of_module: Stack) -> Stack:
    addresses = servers_of_module.up()
    admin = AdminClient({"bootstrap.servers": addresses.kafka})
    admin.create_topics([NewTopic("kept", 3)])["kept"].result()
    with psycopg.connect(addresses.postgres) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    return servers_of_module


@pytest.fixture
def stack_up(filled: Stack, own_stack: Stack) -> Stack:
    """A stack with a topic `kept` and a table `kept`."""
    return own_stack


def holds_what_it_held(stack: Stack) -> bool:
    addresses = stack.addresses_if_up()
    assert addresses
    topics = AdminClient({"bootstrap.servers": addresses.kafka}).list_topics(timeout=10).topics
    with psycopg.connect(addresses.postgres) as connection:
        row = connection.execute("SELECT number, current_setting('fsync') FROM kept").fetchone()
    return row == (42, "on") and len(topics["kept"].partitions) == 3


def pids(stack: Stack) -> list[int | None]:
    return [server.pid for server in stack.status()]


@pytest.mark.full
def test_data_and_addresses_survive_down_and_up(stack_up: Stack) -> None:
    before = stack_up.addresses_if_up()
    stack_up.down()
    assert stack_up.addresses_if_up() is None
    assert pids(stack_up) == [None, None]
    assert stack_up.up() == before
    assert holds_what_it_held(stack_up)


@pytest.mark.full
def test_another_program_finds_the_stack_and_starts_nothing_twice(stack_up: Stack) -> None:
    before = pids(stack_up)
    code = "import sys, pathlib, local.stack as s; print(s.Stack(pathlib.Path(sys.argv[1])).up().kafka)"
    command = [sys.executable, "-c", code, str(stack_up.folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    addresses = stack_up.addresses_if_up()
    assert addresses
    assert said == addresses.kafka
    assert pids(stack_up) == before


@pytest.mark.full
def test_the_password_is_shown_to_who_asks_for_it_and_to_nobody_else(stack_up: Stack) -> None:
    def said(*arguments: str) -> str:
        command = [sys.executable, "-m", "operations", "local", *arguments, "--folder", str(stack_up.folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    state, addresses = State.load(stack_up.folder / "stack.json"), stack_up.addresses_if_up()
    assert state
    assert addresses
    for arguments in (["up"], ["up", "--json"], ["status"], ["status", "--json"]):
        told = said(*arguments)
        assert state.password not in told
        assert addresses.kafka in told
        assert addresses.postgres.replace(state.password, "***") in told
    script = f'eval "{said("env")}"; printf "%s %s" "$WALLET_KAFKA" "$WALLET_POSTGRES"'
    evaluated = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert evaluated == f"{addresses.kafka} {addresses.postgres}"
    assert json.loads(said("env", "--json"))["WALLET_POSTGRES"] == addresses.postgres


def test_a_stack_that_is_deleted_leaves_nothing_and_keeps_nobody_from_a_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "stacks" / "stack"
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(Stack(folder).delete) for _ in range(40)]:
            done.result()
    assert list(folder.parent.iterdir()) == []


@pytest.mark.full
def test_several_ups_at_the_same_time_start_one_stack(stack_up: Stack) -> None:
    stack_up.down()
    with ThreadPoolExecutor(4) as threads:
        found = {
            one.result()
            for one in [threads.submit(Stack(stack_up.folder, stack_up.cache).up) for _ in range(4)]
        }
    assert len(found) == 1
    assert holds_what_it_held(stack_up)


def test_servers_killed_by_sigkill_come_back_with_what_they_held(stack_up: Stack) -> None:
    before = stack_up.addresses_if_up()
    stack_up.kill("kafka")
    stack_up.kill("postgres")
    assert stack_up.addresses_if_up() is None
    stack_up.start("kafka")
    stack_up.start("postgres")
    assert stack_up.addresses_if_up() == before
    assert holds_what_it_held(stack_up)


@pytest.mark.full
def test_a_postmaster_killed_by_somebody_else_is_started_again(stack_up: Stack) -> None:
    postgres = stack_up.status()[1].pid
    assert postgres
    os.kill(postgres, signal.SIGKILL)
    os.waitpid(postgres, 0)
    stack_up.up()
    assert holds_what_it_held(stack_up)


@pytest.mark.full
def test_a_stranger_under_a_pid_of_ours_is_neither_believed_nor_signalled(stack_up: Stack) -> None:
    stack_up.down()
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        file = stack_up.folder / "stack.json"
        state = State.load(file)
        assert state
        forged = Running(stranger.pid, "another boot:1")
        replace(state, kafka=forged, postgres=forged).save(file)
        # Postgres takes any living pid in this file for a server that runs on its data
        (stack_up.folder / "postgres" / "postmaster.pid").write_text(f"{stranger.pid}\n")
        assert stack_up.addresses_if_up() is None
        stack_up.down()
        assert stranger.poll() is None
        stack_up.up()
        assert holds_what_it_held(stack_up)
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.full
def test_a_port_that_a_stranger_took_is_replaced(stack_up: Stack) -> None:
    before = stack_up.addresses_if_up()
    assert before
    stack_up.down()
    port = before.kafka.split(":")[1]
    listen = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(flush=True)"
    )
    command = [sys.executable, "-c", f"{listen}; s.accept()", port]
    stranger = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert stranger.stdout
        stranger.stdout.readline()
        after = stack_up.up()
        assert after.kafka != before.kafka
        assert after.postgres == before.postgres
        assert holds_what_it_held(stack_up)
    finally:
        stranger.kill()
        stranger.communicate()


def test_delete_leaves_a_folder_alone_that_is_no_stack(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(Refused, match="not the folder of a stack"):
        Stack(tmp_path).delete()
    assert (tmp_path / "precious").exists()


def test_a_damaged_state_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"format": 1, "kafka_port": 1}))
    with pytest.raises(Refused, match="is damaged: stop its servers and remove"):
        Stack(tmp_path).addresses_if_up()


def test_a_dead_server_is_not_alive_though_its_parent_has_not_looked() -> None:
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not is_alive(Running(child, "any boot:1"))


def test_every_test_has_a_database_and_a_prefix_of_its_own(settings: Settings) -> None:
    with psycopg.connect(settings.postgres.get_secret_value()) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        facts = connection.execute(
            "SELECT current_setting('server_encoding'), datcollate, rolsuper "
            "FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user"
        ).fetchone()
    assert tables == (0,)
    assert facts == ("UTF8", "C", True)
    assert settings.kafka != "127.0.0.1:9092"
    assert settings.partitions == 4


def test_a_topic_is_never_made_by_mistake(kafka_only_settings: Settings) -> None:
    name = f"{kafka_only_settings.prefix}.mistyped"
    servers: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka_only_settings.kafka}
    producer = Producer({**servers, "message.timeout.ms": 2000, "log_level": 0})
    producer.produce(name, b"lost?")
    producer.flush(10)
    assert name not in AdminClient(servers).list_topics(timeout=10).topics
