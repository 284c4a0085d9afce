"""Schema ids with and without a registry: what counts, what is waited for, what is refused."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from pydantic import SecretStr

from config.errors import ConfigurationError, NotReachable, Refused
from config.settings import Settings
from schemas.accepted import AcceptedIds
from schemas.codec import Decoded, TransactionCodec, encode_transaction, frame
from schemas.records import Reason, Rejected, Transaction
from schemas.references import MOST_REFERENCES, SCHEMA_BYTES
from schemas.registry import Writers, register, schema_ids, subjects
from schemas.registry_api import ANSWER_BYTES
from schemas.versions import SchemaIds, schema_text
from schemas.writers import WriterSchema
from tests.certificates import Authority
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
    ask = Writers(plain_settings)
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
    codec = TransactionCodec(ids.transaction, AcceptedIds(0, ask=Writers(settings)))

    assert isinstance(codec.decode(frame(theirs) + BODY), Decoded)
    for schema_id in (ids.ledger_entry, elsewhere, 99, 0, 2**32 - 1):
        expected = Rejected(Reason.UNDECODABLE, f"schema id {schema_id} is not a Transaction's")
        assert codec.decode(frame(schema_id) + BODY) == expected


def test_a_listed_schema_that_cannot_be_a_transactions_makes_records_undecodable(
    settings: Settings, registry: RegistryServer
) -> None:
    theirs = registry.add(subjects(settings)["transaction"], '"string"')
    assert Writers(settings)(theirs) is None


@pytest.mark.parametrize("answer", AWAY)
def test_an_answer_that_is_not_the_registrys_no_is_waited_for(
    answer: Answer, settings: Settings, registry: RegistryServer
) -> None:
    theirs = registry.add(subjects(settings)["transaction"], schema_text("transaction"))
    registry.before = [answer, answer]
    assert Writers(settings)(theirs)


def test_ids_are_asked_about_once(settings: Settings, registry: RegistryServer) -> None:
    theirs = registry.add(subjects(settings)["transaction"], schema_text("transaction"))
    ask = Writers(settings)
    assert [ask(theirs), ask(99)] == [ask(theirs), ask(99)]
    assert len(registry.asked) == len(set(registry.asked)) == 3


def test_an_unknown_id_is_asked_about_again_after_the_next_fetch(
    settings: Settings, registry: RegistryServer
) -> None:
    ask = Writers(settings)
    assert ask(1) is None
    registry.add(subjects(settings)["transaction"], schema_text("transaction"))
    ask.forget_unknown()
    assert ask(1)


def test_a_registry_that_is_not_there_at_the_start_is_waited_for_and_then_told(
    plain_settings: Settings,
) -> None:
    nobody = {"registry": "http://127.0.0.1:1", "startup_wait_s": 0.2}
    with pytest.raises(NotReachable, match="no registry within WALLET_STARTUP_WAIT_S"):
        schema_ids(plain_settings.model_copy(update=nobody))


def test_a_wait_for_the_registry_ends_when_the_worker_stops(plain_settings: Settings) -> None:
    nobody = {"registry": "http://127.0.0.1:1"}
    stop = Event()
    ask = Writers(plain_settings.model_copy(update=nobody), stop)
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


def test_an_unknown_id_is_asked_about_once_a_batch_however_slow_the_answer(
    settings: Settings, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not have expired before it is there."""
    ask, clock = Writers(settings), [0.0]
    monkeypatch.setattr("schemas.registry_api.time.monotonic", lambda: clock[0])

    def slow(file: Any, answer: bytes) -> None:
        clock[0] += 5.0
        file.write(answer)

    registry.send = slow
    assert [ask(7) for _ in range(30)] == [None] * 30
    assert len(registry.asked) == 1


def test_a_version_that_was_deleted_counts(settings: Settings, registry: RegistryServer) -> None:
    subject = subjects(settings)["transaction"]
    theirs = registry.add(subject, schema_text("transaction"))
    registry.deleted.add((subject, theirs))
    assert Writers(settings)(theirs)


def test_no_redirect_is_followed_for_it_would_carry_the_password(
    settings: Settings, registry: RegistryServer
) -> None:
    with registry_server.running() as elsewhere:
        registry.headers = {"Location": f"{elsewhere.url}/subjects"}
        registry.before = [(302, b""), (307, b""), (301, b"")]
        told = {"registry_auth": SecretStr("user:secret"), "startup_wait_s": 0.0}
        with pytest.raises(
            NotReachable, match="answers 302, a redirect: set WALLET_REGISTRY to where it leads"
        ):
            schema_ids(settings.model_copy(update=told))
        assert not elsewhere.asked


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_does_not_let_us_in_is_told_as_that(
    status: int, settings: Settings, registry: RegistryServer
) -> None:
    registry.before = [(status, {"error_code": status * 100 + 1, "message": "who are you"})]
    with pytest.raises(
        Refused, match=f"denies access to .*-value: {status} who are you: set WALLET_REGISTRY_AUTH"
    ):
        schema_ids(settings)


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 900_000,
        b'{"id": Infinity}',
        b"9" * 900_000,
        b'"' + b"x" * (ANSWER_BYTES + 1) + b'"',
        b"\xff",
        b"null",
    ],
)
def test_an_answer_that_is_garbage_or_too_large_is_as_none(
    answer: bytes, settings: Settings, registry: RegistryServer
) -> None:
    registry.before = [(200, answer)]
    with pytest.raises(NotReachable, match="no registry within"):
        schema_ids(settings.model_copy(update={"startup_wait_s": 0.0}))
    assert len(registry.asked) == 1


def test_an_answer_that_does_not_end_is_given_up(
    settings: Settings, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece comes in time, so no time-out of the connection ends it."""
    monkeypatch.setattr("schemas.registry_api.TIMEOUT_S", 0.5)
    gone = Event()

    def drip(file: Any, answer: bytes) -> None:
        while not gone.wait(0.05):
            file.write(answer[:1])
            file.flush()

    registry.send = drip
    registry.before = [(200, b" " * 100_000)]
    try:
        with pytest.raises(NotReachable, match=r"its answer took longer than 0\.5 s"):
            schema_ids(settings.model_copy(update={"startup_wait_s": 0.0}))
    finally:
        gone.set()


def test_a_registry_with_a_ca_of_its_own_is_trusted_by_ssl_cert_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "ca")
    server_s = authority.sign("registry")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server_s.certificate, server_s.key)
    with registry_server.running(tls=tls) as server:
        secured = settings.model_copy(update={"registry": server.url, "startup_wait_s": 0.0})
        with pytest.raises(NotReachable, match="name the CA's file in SSL_CERT_FILE"):
            register(secured)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        assert register(secured) == SchemaIds(1, 2, 3, 4)


def with_enum_of_its_own(registry: RegistryServer, subject: str) -> int:
    """Transaction whose enum is a subject, which stands in for a namespace that is a subject, too."""
    whole = json.loads(schema_text("transaction"))
    enum = next(field["type"] for field in whole["fields"] if field["name"] == "type")
    registry.add("enum-value", json.dumps(enum | {"namespace": whole["namespace"]}))
    for field in whole["fields"]:
        if field["name"] == "type":
            field["type"] = enum["name"]
    return registry.add(subject, json.dumps(whole), ("wallet.TransactionType", "enum-value"))


def test_what_a_schema_refers_to_is_put_into_it(settings: Settings, registry: RegistryServer) -> None:
    theirs = with_enum_of_its_own(registry, subjects(settings)["transaction"])
    writer = Writers(settings)(theirs)
    assert writer
    assert writer.read(BODY) == WriterSchema(schema_text("transaction")).read(BODY)
    assert WriterSchema(writer.text).read(BODY), "the text stands for itself"


def test_a_reference_that_the_registry_lacks_is_waited_for(
    settings: Settings, registry: RegistryServer
) -> None:
    theirs = with_enum_of_its_own(registry, subjects(settings)["transaction"])
    enum = registry.subjects.pop("enum-value")
    registry.send = lambda file, answer: (
        registry.subjects.update({"enum-value": enum}) if b"Subject not found" in answer else None,
        file.write(answer),
    )[-1]
    assert Writers(settings)(theirs)


def test_references_without_end_make_no_schema(settings: Settings, registry: RegistryServer) -> None:
    subject = subjects(settings)["transaction"]
    for number in range(MOST_REFERENCES + 2):
        registry.add(
            f"s{number}",
            json.dumps({"type": "fixed", "name": f"F{number}", "size": 1}),
            ("x", f"s{number + 1}"),
        )
    theirs = registry.add(subject, schema_text("transaction"), ("x", "s0"))
    assert Writers(settings)(theirs) is None


def test_a_schema_that_may_hide_the_group_is_refused(settings: Settings, registry: RegistryServer) -> None:
    subject = subjects(settings)["transaction"]
    renamed = registry.add(subject, schema_text("transaction").replace('"group_id"', '"transfer_id"'))
    aliased = schema_text("transaction").replace(
        '"name": "group_id"', '"name": "transfer", "aliases": ["group_id"]'
    )
    more = json.loads(schema_text("transaction"))
    more["fields"].append({"name": "branch", "type": "string"})
    fewer = json.loads(schema_text("transaction"))
    fewer["fields"] = [one for one in fewer["fields"] if one["name"] not in {"group_id", "metadata"}]
    ask = Writers(settings)
    assert ask(renamed) is None
    assert ask(registry.add(subject, aliased)) is None
    assert ask(registry.add(subject, json.dumps(more)))
    assert ask(registry.add(subject, json.dumps(fewer)))


def test_a_schema_that_is_too_large_is_refused(settings: Settings, registry: RegistryServer) -> None:
    large = json.loads(schema_text("transaction")) | {"doc": "x" * SCHEMA_BYTES}
    assert Writers(settings)(registry.add(subjects(settings)["transaction"], json.dumps(large))) is None


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
