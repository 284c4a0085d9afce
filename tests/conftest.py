"""What tests share: a real Kafka and a real PostgreSQL, and settings that belong to one test alone.

The servers are those of the local stack, or with `WALLET_TEST_WITH=testcontainers` containers. They come up
for the first test that asks for them. Test runs at the same time share them: each test has its own prefix
and its own database. A test that kills a server takes `own_stack`, so that it disturbs nobody.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql
from pydantic import SecretStr
from xdist.scheduler import LoadScopeScheduling

from config import logs
from config.folders import try_lock
from config.settings import Settings
from local.stack import Addresses, Stack

if TYPE_CHECKING:
    from tests.containers import Containers

# How long an example takes says how busy the machine is, not whether the code is right. Each run draws other
# examples, on a build machine too, where Hypothesis would draw the same for ever; a failure prints how to see it again.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")

FOLDER = Path(__file__).parents[1] / ".local"
#: Servers live by the clock of the tests that start them (`tests.later`).
STACK = "-".join(filter(None, ["test-stack", os.environ.get("TEST_MONTHS_LATER")]))
IN_CONTAINERS = os.environ.get("WALLET_TEST_WITH", "local") == "testcontainers"
CACHE = Path(os.environ.get("WALLET_LOCAL_CACHE", Settings.model_fields["local_cache"].default))
NOWHERE = "postgresql://127.0.0.1:1/this-test-has-no-database"


#: Why a test may be skipped on a build machine; whatever else it lacks, `.ci/run` has to bring.
MAY_BE_SKIPPED = (
    "root may write everywhere",
    "no file system can be mounted",
    "_testcapi",
    "the machine is too busy",
    "no Docker engine runs here",
    "about the local stack",
    "kubectl is not installed",
    "go is not installed",
    "npm is not installed",
    "cargo is not installed",
    "OpenSSL's headers are not installed",
    "the last release is not in this clone",
)


#: A test module that has one of these in its text shares what it sets up.
SHARED = re.compile(r"scope=\"module\"|\b(own_stack|own_settings|servers_of_module)\b")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that share what a module sets up run in one process, so that it is set up once; the others anywhere.

    (`--dist loadgroup` and its marks do nothing with pytest 9.2: xdist 3.8 writes a field that nobody reads any more.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares(file) else nodeid


@cache
def _shares(file: str) -> bool:
    return bool(SHARED.search((FOLDER.parent / file).read_text()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """For xdist."""
    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On a build machine a test that is skipped for what is lacking there has failed."""
    report = yield
    if report.skipped and "CI" in os.environ and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if not any(allowed in reason for allowed in MAY_BE_SKIPPED):
            report.outcome, report.longrepr = "failed", f"not to be skipped on a build machine: {reason}"
    return report


@pytest.fixture(autouse=True)
def _no_logs_after_it() -> Iterator[None]:
    """A command that ran in this process logs to the stderr of its test, which is closed then."""
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler.formatter, logs.OneLine)]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack | Containers]:
    """The servers that all tests share; nobody stops or kills these."""
    with _containers() if IN_CONTAINERS else _shared(FOLDER / STACK) as servers:
        _sync_nothing(_addresses(servers))
        yield servers


@pytest.fixture(scope="session")
def addresses(stack: Stack | Containers) -> Addresses:
    """Where they are, for what a module sets up."""
    return _addresses(stack)


@pytest.fixture(scope="module")
def servers_of_module() -> Iterator[Stack | Containers]:
    """What `own_stack` brings up: one set of servers for the tests of one module."""
    with _containers() if IN_CONTAINERS else _private() as servers:
        yield servers


@pytest.fixture
def own_stack(servers_of_module: Stack | Containers) -> Stack | Containers:
    """Servers to stop and to kill at will: `own_stack.kill("kafka")`, `own_stack.start("kafka")`.

    Both run when a test begins, whatever the one before did to them.
    """
    servers_of_module.up()
    return servers_of_module


@pytest.fixture
def settings(stack: Stack | Containers, new_settings: Callable[[Addresses], Settings]) -> Settings:
    """Settings with a prefix, an empty database and a state folder of this test's own."""
    return new_settings(_addresses(stack))


@pytest.fixture
def own_settings(
    own_stack: Stack | Containers, new_settings: Callable[[Addresses], Settings]
) -> Iterator[Settings]:
    """The same on `own_stack`."""
    yield new_settings(_addresses(own_stack))
    own_stack.up()  # the test may have left a server down, and what it made there is removed next


@pytest.fixture
def kafka_only_settings(stack: Stack | Containers, plain_settings: Settings) -> Iterator[Settings]:
    """Settings with a prefix and a state folder of this test's own, and no database."""
    settings = plain_settings.model_copy(update={"kafka": _addresses(stack).kafka})
    yield settings
    delete_topics(settings)


@pytest.fixture
def new_settings(plain_settings: Settings) -> Iterator[Callable[[Addresses], Settings]]:
    """Makes settings for given servers; what is theirs there is removed after the test."""
    with ExitStack() as made:
        yield lambda addresses: made.enter_context(settings_on(addresses, plain_settings))


@contextmanager
def settings_on(addresses: Addresses, plain: Settings) -> Iterator[Settings]:
    """Settings with a prefix and an empty database of their own on these servers, and what is theirs removed after."""
    name = f"test_{secrets.token_hex(4)}"
    with psycopg.connect(addresses.postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} STRATEGY FILE_COPY").format(sql.Identifier(name)))
    dsn = urlsplit(addresses.postgres)._replace(path=f"/{name}").geturl()
    changes = {"prefix": name.replace("_", "-"), "kafka": addresses.kafka, "postgres": SecretStr(dsn)}
    settings = plain.model_copy(update=changes)
    try:
        yield settings
    finally:
        delete_topics(settings)
        with psycopg.connect(addresses.postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def plain_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings without servers, undisturbed by the environment and by a .env file."""
    for name in [name for name in os.environ if name.startswith("WALLET_") and name != "WALLET_TEST_WITH"]:
        monkeypatch.delenv(name)
    return Settings(
        _env_file=None,
        prefix=f"test-{secrets.token_hex(4)}",
        postgres=SecretStr(NOWHERE),
        state_dir=tmp_path / "state",
        partitions=4,
        session_timeout_s=6,
    )


@pytest.fixture
def environment() -> Callable[[Settings], dict[str, str]]:
    """Turns settings into the environment of a `wallet` command that a test starts."""

    def of(settings: Settings) -> dict[str, str]:
        ours = {
            f"WALLET_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in settings
            if value is not None
        }
        return {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")} | ours

    return of


@contextmanager
def _shared(folder: Path) -> Iterator[Stack]:
    """The stack of this folder, up while any test run uses it; left alone if it ran before the first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    stack, ours = Stack(folder, CACHE), folder.with_suffix(".started-by-tests")
    with folder.with_suffix(".users").open("w") as users:
        if try_lock(users) and not (stack.addresses_if_up() or ours.exists()):
            stack.delete()  # the first of them starts from nothing, whatever the last one left behind
            ours.touch()
        fcntl.flock(users, fcntl.LOCK_SH)
        stack.up()
        try:
            yield stack
        finally:
            if try_lock(users) and ours.exists():
                stack.down()
                ours.unlink()


@contextmanager
def _private() -> Iterator[Stack]:
    # not in tmp_path: Postgres, as `nobody` when we are root, could not reach it
    stack = Stack(FOLDER / f"own-stack-{secrets.token_hex(4)}", CACHE)
    try:
        stack.up()
        yield stack
    finally:
        stack.delete()


@contextmanager
def _containers() -> Iterator[Containers]:
    from tests.containers import Containers, has_engine  # noqa: PLC0415 - a second to load, for those who want it

    if not has_engine():
        pytest.skip("no Docker engine runs here")
    containers = Containers()
    try:
        containers.up()
        yield containers
    finally:
        containers.down()


def _sync_nothing(addresses: Addresses) -> None:
    """Have PostgreSQL leave it to the machine when files are written: to drop a database takes a tenth of the time.

    What a killed server has written is there all the same; only a machine that loses its power would lose it.
    """
    with psycopg.connect(addresses.postgres, autocommit=True) as owner:
        owner.execute("ALTER SYSTEM SET fsync = off")
        owner.execute("ALTER SYSTEM SET full_page_writes = off")
        owner.execute("SELECT pg_reload_conf()")


def _addresses(servers: Stack | Containers) -> Addresses:
    addresses = servers.addresses_if_up()
    assert addresses, "the servers that the tests share are down: who stopped them?"
    return addresses


def delete_topics(settings: Settings) -> None:
    """Delete the topics under the pipeline's prefix."""
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    names = [name for name in admin.list_topics(timeout=30).topics if name.startswith(f"{settings.prefix}.")]
    for deleted in admin.delete_topics(names, operation_timeout=30).values() if names else []:
        deleted.result()
