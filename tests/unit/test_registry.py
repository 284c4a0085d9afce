"""Schema ids with and without a registry: what counts, what is waited for, what is refused."""

import socket
from collections.abc import Iterator
from threading import Event, Thread

import pytest
from pydantic import SecretStr

from config.errors import ConfigurationError, NotReachable, Refused
from config.settings import Settings
from schemas.codec import Decoded, TransactionCodec, encode_transaction, frame
from schemas.records import Reason, Rejected, Transaction
from schemas.registry import SchemaIds, register, schema_ids, subjects, writers
from schemas.versions import schema_text
from tests.unit import registry_server
from tests.unit.registry_server import Answer, RegistryServer
from tests.unit.transactions import UUID

BODY = encode_transaction(Transaction(UUID, "alice", 0, 1_250, "EUR", 1_790_000_000_000_000))
AWAY: list[Answer] = [
    (500, {"error_code": 50001, "message": "store"}),
    (503, b"<html>busy</html>"),
    (404, b"<html>not here</html>"),
    (404, {"error_code": 0, "message": "a proxy's"}),
    (200, b"<html>a captive portal</html>"),
    (200, {"unexpected": 1}),
    (401, {"error_code": 40101, "message": "who are you"}),
]


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with registry_server.running() as server:
        yield server


@pytest.fixture
def settings(plain_settings: Settings, registry: RegistryServer) -> Settings:
    return plain_settings.model_copy(update={"registry": registry.url, "retry_wait_s": 0.1})


def test_without_a_registry_the_ids_are_fixed(plain_settings: Settings) -> None:
    assert schema_ids(plain_settings) == register(plain_settings) == SchemaIds(1, 2, 3, 4)


def test_without_a_registry_only_id_1_is_a_transactions(plain_settings: Settings) -> None:
    ask = writers(plain_settings)
    assert ask(1)
    assert [ask(schema_id) for schema_id in (0, 2, 3, 4, 2**32 - 1)] == [None] * 5


def test_init_registers_the_four_schemas_once_and_for_full_compatibility(
    settings: Settings, registry: RegistryServer
) -> None:
    registry.add("something-else", '"string"')
    ids = register(settings)
    held = {subject: list(listed) for subject, listed in registry.subjects.items()}
    assert register(settings) == ids == schema_ids(settings) == SchemaIds(2, 3, 4, 5)
    assert registry.subjects == held
    assert registry.compatibility == dict.fromkeys(subjects(settings).values(), "FULL_TRANSITIVE")


def test_subjects_are_named_after_the_topics(plain_settings: Settings) -> None:
    settings = plain_settings.model_copy(update={"prefix": "shadow", "input": "live.transactions"})
    assert subjects(settings) == {
        "transaction": "live.transactions-value",
        "ledger_entry": "shadow.ledger-value",
        "balance": "shadow.balances-value",
        "snapshot": "shadow.snapshots-value",
    }


def test_before_init_the_ids_are_refused_and_nothing_is_registered(
    settings: Settings, registry: RegistryServer
) -> None:
    with pytest.raises(Refused, match="run `wallet init`"):
        schema_ids(settings)
    assert registry.subjects == {}


def test_a_schema_that_the_registry_declines_is_refused(settings: Settings, registry: RegistryServer) -> None:
    registry.before = [
        (200, {"compatibility": "NONE"}),
        (409, {"error_code": 409, "message": "incompatible"}),
    ]
    with pytest.raises(Refused, match="409 incompatible"):
        register(settings)


def test_an_id_counts_if_the_input_topics_subject_lists_it(
    settings: Settings, registry: RegistryServer
) -> None:
    ids = register(settings)
    theirs = registry.add(subjects(settings)["transaction"], schema_text("transaction").replace("doc", "was"))
    elsewhere = registry.add("other-value", schema_text("transaction").replace("doc", "note"))
    codec = TransactionCodec(ids.transaction, writers(settings))

    assert isinstance(codec.decode(frame(theirs) + BODY), Decoded)
    for schema_id in (ids.ledger_entry, elsewhere, 99, 0, 2**32 - 1):
        expected = Rejected(Reason.UNDECODABLE, f"schema id {schema_id} is not a Transaction's")
        assert codec.decode(frame(schema_id) + BODY) == expected


def test_a_listed_schema_that_cannot_be_a_transactions_makes_records_undecodable(
    settings: Settings, registry: RegistryServer
) -> None:
    theirs = registry.add(subjects(settings)["transaction"], '"string"')
    assert writers(settings)(theirs) is None


@pytest.mark.parametrize("answer", AWAY)
def test_an_answer_that_is_not_the_registrys_no_is_waited_for(
    answer: Answer, settings: Settings, registry: RegistryServer
) -> None:
    theirs = registry.add(subjects(settings)["transaction"], schema_text("transaction"))
    registry.before = [answer, answer]
    assert writers(settings)(theirs)


def test_ids_are_asked_about_once(
    settings: Settings, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.registry.UNKNOWN_S", 600.0)
    theirs = registry.add(subjects(settings)["transaction"], schema_text("transaction"))
    ask = writers(settings)
    assert [ask(theirs), ask(99)] == [ask(theirs), ask(99)]
    assert len(registry.asked) == len(set(registry.asked)) == 3


def test_an_unknown_id_is_asked_about_again_after_the_next_fetch(
    settings: Settings, registry: RegistryServer
) -> None:
    ask = writers(settings)
    assert ask(1) is None
    registry.add(subjects(settings)["transaction"], schema_text("transaction"))
    ask.forget_unknown()
    assert ask(1)


def test_an_unknown_id_is_asked_about_again_after_a_while(
    settings: Settings, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = writers(settings)
    monkeypatch.setattr("schemas.registry.UNKNOWN_S", 0.0)
    assert ask(1) is None
    registry.add(subjects(settings)["transaction"], schema_text("transaction"))
    assert ask(1)


def test_a_registry_that_is_not_there_at_the_start_is_waited_for_and_then_told(
    plain_settings: Settings,
) -> None:
    nobody = {"registry": f"http://127.0.0.1:{free_port()}", "startup_wait_s": 0.2}
    with pytest.raises(NotReachable, match="no registry within WALLET_STARTUP_WAIT_S"):
        schema_ids(plain_settings.model_copy(update=nobody))


def test_a_wait_for_the_registry_ends_when_the_worker_stops(plain_settings: Settings) -> None:
    nobody = {"registry": f"http://127.0.0.1:{free_port()}"}
    stop = Event()
    ask = writers(plain_settings.model_copy(update=nobody), stop)
    outcomes: list[str] = []

    def wait() -> None:
        try:
            ask(7)
        except NotReachable as error:
            outcomes.append(str(error))

    waiting = Thread(target=wait)
    waiting.start()
    stop.set()
    waiting.join(timeout=30)
    assert len(outcomes) == 1
    assert outcomes[0].startswith("stopped while")


def test_the_registry_is_told_user_and_password(settings: Settings, registry: RegistryServer) -> None:
    register(settings.model_copy(update={"registry_auth": SecretStr("user:secret")}))
    assert registry.authorization == {"Basic dXNlcjpzZWNyZXQ="}


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "registry:8081", "http://", "http://user:secret@host:1"]
)
def test_an_address_that_is_none_is_told_without_its_secrets(plain_settings: Settings, url: str) -> None:
    with pytest.raises(ConfigurationError, match="WALLET_REGISTRY must be like") as told:
        schema_ids(plain_settings.model_copy(update={"registry": url}))
    assert "secret" not in str(told.value)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
