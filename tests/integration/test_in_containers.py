"""docker-compose.yml and the containers of the tests, on a Docker engine: `make test-full`, where there is one."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.state import free_port
from operations.release.inventory import locked
from tests.containers import has_engine
from tests.ledgers import wait_until
from tests.unit.test_compose import ROOT, compose

pytestmark = [
    pytest.mark.integration,
    pytest.mark.full,
    pytest.mark.timeout(1800),  # the image is built
    pytest.mark.skipif(not has_engine(), reason="no Docker engine runs here"),
]


IMAGE = "wallet-ledger"
BUILT = {"VERSION": "0.1.0.dev7", "REVISION": "5e1f", "CREATED": "2026-11-28T12:00:00Z"}
#: What it may add to the image of Python that it is built on, which has 125 MB: 250 MB in all is the bound.
ADDED_BYTES = 120_000_000
#: Of the tests that `make test-containers` plays: exactly once, servers that are killed and suspended, an audit.
SWITCHED = (
    "tests/integration/test_worker_exact.py::test_mixed_input_becomes_exactly_what_the_fold_says",
    "tests/integration/test_sink_faults.py",
    "tests/integration/test_postgres_suspended.py",
    "tests/integration/test_verify_running.py",
)
#: Run inside: the rights that a process really has.
RIGHTS = """
import pathlib
kept = ("NoNewPrivs", "CapEff", "CapPrm", "CapBnd", "Uid")
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith(kept)))
try:
    pathlib.Path("/opt/wallet/written").touch()
except OSError as refused:
    print(refused.strerror)
"""


class Project:
    """docker-compose.yml with a name, ports and volumes of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.name = f"wallet-test-{secrets.token_hex(4)}"
        ports: list[int] = []
        for _ in range(3):
            ports.append(free_port(without=ports))
        example = (ROOT / ".env.example").read_text().replace("change-me", "pa$wo@rd")
        self._env = folder / "env"
        self._env.write_text(example + "KAFKA_PORT={}\nREGISTRY_PORT={}\nPOSTGRES_PORT={}\n".format(*ports))
        self._compose = compose()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self._compose, "--env-file", str(self._env), "--project-name", self.name, *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def set(self, line: str) -> None:
        """One more line in .env."""
        self._env.write_text(f"{self._env.read_text()}{line}\n")

    def up(self) -> None:
        done = self.run("up", "--detach", "--scale", "worker=2")
        assert done.returncode == 0, done.stdout + done.stderr
        wait_until(lambda: set(self.tell("{{.State.Health.Status}}")) == {"healthy"}, "all are ready")

    def wallet(self, *words: str) -> str:
        """A command beside the sinks, which must succeed."""
        done = self.run("exec", "-T", "sinks", "wallet", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def caught_up(self) -> bool:
        """Whether worker and sinks have read everything."""
        places = json.loads(self.wallet("status", "--json"))["places"]
        return all(place["lag"] == 0 for place in places)

    def is_clean(self) -> None:
        """Every record has its outcome, once, in topics and tables."""
        wait_until(self.caught_up, "nothing is left to read")
        self.wallet("verify")

    def tell(self, what: str, *services: str) -> list[str]:
        """A field of what the engine knows of each worker and sink."""
        of = services or ("worker", "sinks", "archive")
        return [docker("inspect", "--format", what, one) for one in self.ids(*of)]

    def ids(self, *services: str) -> list[str]:
        return [
            one
            for service in services
            for one in docker(
                "ps",
                "--all",
                "--quiet",
                "--filter",
                f"label=com.docker.compose.project={self.name}",
                "--filter",
                f"label=com.docker.compose.service={service}",
            ).split()
        ]


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Everything, with two workers, which have worked on records."""
    project = Project(tmp_path_factory.mktemp("compose"))
    try:
        built = project.run(
            "build", *(f"--build-arg={name}={value}" for name, value in BUILT.items()), "worker"
        )
        assert built.returncode == 0, built.stdout + built.stderr
        project.up()
        project.wallet("generate", "--count", "5000", "--bad", "0.05", "--seed", "7")
        yield project
    finally:
        project.run("down", "--volumes", "--remove-orphans")


def test_what_comes_in_is_exact_in_topics_and_tables(project: Project) -> None:
    project.is_clean()


def test_the_image_says_what_it_is(project: Project) -> None:
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", IMAGE))
    told = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert {name: told[name.lower()] for name in BUILT} == BUILT
    assert told["title"] == IMAGE
    assert told["licenses"] == "Apache-2.0"
    assert told["description"]
    assert project.wallet("--version") == f"wallet {BUILT['VERSION']}\n"


def test_the_image_brings_its_bill_of_materials(project: Project) -> None:
    bill = json.loads(project.run("exec", "-T", "sinks", "cat", "/opt/wallet/sbom.cdx.json").stdout)
    assert bill["metadata"]["component"]["version"] == BUILT["VERSION"]
    kinds = {one["name"]: one["purl"].partition("/")[0] for one in bill["components"]}
    assert {name for name, kind in kinds.items() if kind == "pkg:pypi"} <= locked(ROOT / "requirements.txt")
    assert (kinds["rocksdict"], kinds["libc6"]) == ("pkg:pypi", "pkg:deb")
    assert not {"pip", "setuptools", "gcc"} & {name for name, kind in kinds.items() if kind == "pkg:pypi"}


def test_the_image_adds_little_to_pythons(project: Project) -> None:
    base = re.findall(r"^(?:ARG PYTHON_VERSION=|FROM )(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ours, pythons = (
        int(docker("image", "inspect", "--format", "{{.Size}}", name))
        for name in (IMAGE, base[-1].replace("${PYTHON_VERSION}", base[0]))
    )
    assert ours - pythons < ADDED_BYTES


def test_linear_algebra_which_audits_do_not_need_ends_a_process_and_says_why(project: Project) -> None:
    multiply = "import numpy; numpy.ones((2, 2)) @ numpy.ones((2, 2))"
    done = project.run("exec", "-T", "sinks", "python", "-c", multiply)
    assert done.returncode == 128 + signal.SIGABRT
    assert "this image has no linear algebra" in done.stderr


@pytest.mark.parametrize("service", ["worker", "sinks", "archive"])
def test_a_process_has_no_more_rights_than_it_needs(project: Project, service: str) -> None:
    done = project.run("exec", "-T", service, "python", "-c", RIGHTS)
    assert sorted(done.stdout.split("\n")[0].split()) == ["0" * 16] * 3 + ["1", "10001"]
    assert done.stdout.split("\n")[1] == "Read-only file system"
    assert {*project.tell("{{.HostConfig.Memory}}", service)} == {str(2**30)}


def test_a_worker_that_is_killed_starts_again_and_nothing_is_lost(project: Project) -> None:
    project.wallet("generate", "--count", "5000", "--bad", "0.05", "--seed", "8")
    victim = project.ids("worker")[0]
    # inside, so that the engine takes it for a crash; its first process is the one that hands signals on
    killing = ["docker", "exec", victim, "python", "-c", "import os; os.kill(-1, 9)"]
    subprocess.run(killing, capture_output=True, check=False)  # it may go down with what it killed
    wait_until(lambda: project.tell("{{.RestartCount}}", "worker") != ["0", "0"], "it was started again")
    project.is_clean()


def test_servers_that_are_started_again_are_found_again(project: Project) -> None:
    for server in ("postgres", "kafka"):
        assert project.run("restart", server).returncode == 0
    project.up()
    project.is_clean()


def test_why_one_is_not_ready_is_in_its_health(project: Project) -> None:
    assert project.run("stop", "kafka").returncode == 0
    health = "{{range .State.Health.Log}}{{.Output}}{{end}}"
    wait_until(lambda: "Kafka does not answer\n" in project.tell(health, "worker")[0], "it is told")
    assert "Traceback" not in project.tell(health, "worker")[0]
    project.up()


def test_all_end_in_order_when_told_and_what_they_held_is_there_at_the_next_start(project: Project) -> None:
    # After 10 s it would be SIGKILL, and exit code 137.
    assert project.run("stop", "--timeout", "10", "worker", "sinks", "archive").returncode == 0
    assert set(project.tell("{{.State.ExitCode}}")) == {"0"}
    assert project.run("down").returncode == 0
    project.up()
    project.is_clean()


def test_a_build_in_which_nothing_was_compiled_ends_and_says_so(project: Project) -> None:
    """The Dockerfile's own check, on an image that is so."""
    found = re.search(r"python -c '([^']*native\.post[^']*)'", (ROOT / "Dockerfile").read_text())
    assert found
    without = 'rm /opt/wallet/lib/python3*/site-packages/wallet_ledger/app/schemas/native/_native*.so; python -c "$0"'
    words = ["docker", "run", "--rm", "--user=0", "--workdir=/", "--entrypoint=sh", IMAGE, "-c", without]
    done = subprocess.run([*words, found[1].replace("\\\n", "")], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.endswith("not compiled: see what gcc said above of schemas/native/_native.c\n")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    taken = Project(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        taken.set(f"KAFKA_PORT={port}")
        done = taken.run("up", "--detach", "kafka")
    taken.run("down", "--volumes")
    assert done.returncode != 0
    assert re.search(rf"127\.0\.0\.1:{port}: .*(already allocated|already in use)", done.stderr)


def test_an_init_that_cannot_succeed_ends_and_so_does_up(project: Project) -> None:
    project.set("WALLET_PARTITIONS=13")
    done = project.run("up", "--detach", "init", "worker")
    assert done.returncode != 0
    assert project.tell("{{.State.ExitCode}} {{.RestartCount}}", "init") == ["2 3"]
    project.set("WALLET_PARTITIONS=")


def test_a_database_beside_the_volume_of_another_kafka_is_refused(project: Project) -> None:
    """The last of these: what Kafka held is gone."""
    assert project.run("down").returncode == 0
    docker("volume", "rm", f"{project.name}_kafka")
    project.run("up", "--detach", "sinks")
    refused = "check that WALLET_KAFKA and WALLET_POSTGRES belong together"
    wait_until(lambda: refused in project.run("logs", "sinks").stdout, "the sinks say so")


def test_integration_tests_pass_on_servers_in_containers() -> None:
    done = subprocess.run(
        ["make", "test-containers", f"TESTS={' '.join(SWITCHED)}"],
        cwd=ROOT,
        env=os.environ | {"CI": "true"},  # none is skipped
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
