"""The same calls to a real registry: Apicurio, through its face for Confluent's API."""

from collections.abc import Iterator

import pytest

from config.errors import Refused
from config.settings import Settings
from schemas.accepted import AcceptedIds
from schemas.codec import Decoded, TransactionCodec, encode_transaction, frame
from schemas.records import Reason, Rejected, Transaction
from schemas.registry import Writers, register, schema_ids, subjects
from schemas.registry_api import Declined, Registry
from schemas.versions import FIXED_IDS, schema_text
from tests import apicurio
from tests.unit.transactions import UUID

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with apicurio.running(tmp_path_factory.mktemp("apicurio")) as address:
        yield address


@pytest.fixture
def settings(plain_settings: Settings, url: str) -> Settings:
    return plain_settings.model_copy(update={"registry": url})


def test_init_registers_once_and_workers_find_the_ids(settings: Settings) -> None:
    with pytest.raises(Refused, match="run `wallet init`"):
        schema_ids(settings)
    ids = register(settings)
    assert ids == register(settings) == schema_ids(settings)
    assert len(set(ids)) == len(FIXED_IDS)


def test_a_producers_own_version_is_read_and_other_ids_are_not(settings: Settings) -> None:
    ids = register(settings)
    registry = Registry.of(settings)
    assert registry
    theirs = registry.register(
        subjects(settings)["transaction"], schema_text("transaction").replace('"doc"', '"was"')
    )
    codec = TransactionCodec(ids.transaction, AcceptedIds(0, ask=Writers(settings)))
    body = encode_transaction(Transaction(UUID, "alice", 0, 1_250, "EUR", 1_790_000_000_000_000))

    assert theirs != ids.transaction
    assert isinstance(codec.decode(frame(theirs) + body), Decoded)
    for schema_id in (ids.balance, 2**31 - 1, 2**32 - 1):
        expected = Rejected(Reason.UNDECODABLE, f"schema id {schema_id} is not a Transaction's")
        assert codec.decode(frame(schema_id) + body) == expected


def test_an_incompatible_version_is_declined_from_the_first_init_on(settings: Settings) -> None:
    register(settings)
    registry = Registry.of(settings)
    assert registry
    incompatible = schema_text("transaction").replace('"name": "amount"', '"name": "cents"')
    with pytest.raises(Declined, match="409"):
        registry.register(subjects(settings)["transaction"], incompatible)
