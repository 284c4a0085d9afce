"""A worker whose login lacks a right, from the start or from some moment on, ends in one line that names it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from config.errors import Refused
from config.settings import Settings
from tests.conftest import CACHE
from tests.effort import in_full
from tests.integration.pipelines import Upstream, as_record, initialise_topics, small, transaction, wallets_of
from tests.integration.workers import Worker, wait_until
from tests.secured import ADMIN, SecuredBroker, as_user, running

pytestmark = pytest.mark.integration

GROUP = (ResourceType.GROUP, "", AclOperation.READ)
INPUT = (ResourceType.TOPIC, ".transactions", AclOperation.READ)
LEDGER = (ResourceType.TOPIC, ".ledger", AclOperation.WRITE)
TRANSACTIONS = (ResourceType.TRANSACTIONAL_ID, "-2", AclOperation.WRITE)
Right = tuple[ResourceType, str, AclOperation]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker on which a worker's login may do everything, until something is denied."""
    with running(tmp_path_factory.mktemp("kafka"), CACHE, ("worker",)) as broker:
        kinds = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
        set_acls(broker, AclPermissionType.ALLOW, [(kind, "*", AclOperation.ALL) for kind in kinds])
        yield broker


@pytest.fixture
def place(broker: SecuredBroker, plain_settings: Settings) -> Settings:
    """A pipeline there."""
    settings = small(plain_settings, kafka=broker.address)
    initialise_topics(as_user(settings, ADMIN))
    return settings


def set_acls(broker: SecuredBroker, permission: AclPermissionType, rights: list[Right]) -> None:
    admin = broker.admin()
    acls = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, "User:worker", "*", operation, permission)
        for kind, name, operation in rights
    ]
    for answer in admin.create_acls(acls).values():
        answer.result(30)


@pytest.mark.parametrize(
    ("right", "told"),
    [
        (GROUP, r"READ on (the )?group {}\b"),
        in_full(INPUT, r"READ on (the )?topic {}\.transactions\b"),
        in_full(LEDGER, r"WRITE on (the topics that {0} derives|topic {0}\.ledger)"),
        (TRANSACTIONS, r"WRITE on the transactional id {}-2\b"),
    ],
)
@pytest.mark.parametrize("later", [False, in_full(True)])
def test_a_worker_without_a_right_names_it_and_is_refused(
    broker: SecuredBroker, place: Settings, tmp_path: Path, right: Right, told: str, *, later: bool
) -> None:
    denied = [(right[0], place.prefix + right[1], right[2])]
    if not later:
        set_acls(broker, AclPermissionType.DENY, denied)
    worker = Worker(as_user(place, "worker"), tmp_path / "worker.log")
    if later:
        worker.wait_until_told("ready", 4)
        set_acls(broker, AclPermissionType.DENY, denied)
    upstream = Upstream(as_user(place, ADMIN))
    wallet, number = next(wallets_of(2)), 0

    def ended() -> bool:
        nonlocal number
        number += 1
        upstream.send([as_record(transaction(number, wallet))])
        return not worker.runs

    wait_until(ended, f"it has ended\n{worker.told()}")
    why = worker.failed(Refused)
    assert re.search(told.format(place.prefix), why), why
    assert why.startswith("wallet: ")
    assert "traceback" not in worker.text().lower()
