"""Clients in other languages: each built and tested by its own tools, then all on one pipeline. `make clients`."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydantic import SecretStr

from config.settings import Settings
from local.stack import Stack
from schemas.codec import chain, encode_entry, encode_transaction
from schemas.registry import subjects
from schemas.registry_api import Registry
from schemas.versions import schema_text
from tests import apicurio, encrypted
from tests.certificates import Authority
from tests.conftest import CACHE
from tests.encrypted import EncryptedBroker
from tests.integration.pipelines import (
    Worker,
    as_record,
    make_topics,
    open_transaction,
    transaction,
    wait_until,
)
from tests.integration.verify_copies import decided, written
from tests.integration.workers import done
from tests.ledgers import LEDGER_FRAME, Ledger, Record, Written, publish
from tests.reading import incoming, read_all
from tests.unit import registry_server
from topics.cluster import offsets, quiet_admin
from topics.names import Topics

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(1800)]

#: What Rust's client needs for TLS.
OPENSSL = shutil.which("pkg-config") is not None and (
    subprocess.run(["pkg-config", "--exists", "openssl"], check=False).returncode == 0
)
FOLDER = Path(__file__).parents[2] / "clients"
#: Lines that each language sends, beside one that is sent twice and one that all languages send.
LINES = 3_000
PATIENCE_S = 120
Environment = Callable[[Settings], dict[str, str]]
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Client:
    """A program in another language: what builds and tests it, and how it is run, within its folder."""

    tools: tuple[str, ...]
    build: tuple[str, ...]
    run: str
    #: Whether it waits for a transaction that is open at the end: KafkaJS cannot ask where the last decided one ends.
    waits: bool = False


CLIENTS = {
    "go": Client(("go",), ("go vet ./...", "go test ./...", "go build -o build/ ."), "build/wallet-client"),
    "java": Client(("java", "mvn"), ("mvn -q -B -ntp package",), "java -jar target/wallet-client.jar"),
    "node": Client(("node", "npm"), ("npm ci", "npm test"), "node wallet-client.js", waits=True),
    "rust": Client(
        ("cargo", "cc", "make"),
        tuple(f"cargo {what} --quiet --release{' --features tls' * OPENSSL}" for what in ("test", "build")),
        "target/release/wallet-client",
    ),
}

every = pytest.mark.parametrize("language", CLIENTS)


def lacking(language: str) -> str | None:
    """The first tool of a language that this machine lacks."""
    return next((tool for tool in CLIENTS[language].tools if shutil.which(tool) is None), None)


@cache
def built(language: str) -> None:
    """Build a client and run its own tests, once. Skips where a tool is lacking."""
    if tool := lacking(language):
        pytest.skip(f"{language}: {tool} is not installed")
    for command in CLIENTS[language].build:
        ran = subprocess.run(
            command.split(), cwd=FOLDER / language, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout[-8_000:]}\n{ran.stderr[-8_000:]}"


@pytest.fixture(scope="module")
def languages() -> list[str]:
    """Those that this machine can build, built."""
    there = [language for language in CLIENTS if not lacking(language)]
    if not there:
        pytest.skip(f"{' and '.join(str(lacking(language)) for language in CLIENTS)} are not installed")
    for language in there:
        built(language)
    return there


def started(language: str, env: dict[str, str], *words: str) -> subprocess.Popen[str]:
    """A command of a client, which runs."""
    return subprocess.Popen(
        [*CLIENTS[language].run.split(), *words],
        cwd=FOLDER / language,
        env=env | {"LC_ALL": "C"},  # a text is UTF-8, whatever the machine's language
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def ended(process: subprocess.Popen[str]) -> Done:
    """What it said, when it has ended; it is not left behind."""
    with process:
        try:
            output, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    return Done(process.args, process.returncode, output, errors)


def client(language: str, env: dict[str, str], *words: str) -> Done:
    """A command of a client, run to its end."""
    return ended(started(language, env, *words))


def says(ran: Done) -> str:
    """What a command said, which must have ended well."""
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def refuses(ran: Done) -> str:
    """The one line in which a command said what is wrong."""
    assert (ran.returncode, ran.stdout) == (1, ""), ran
    [line] = ran.stderr.splitlines()
    return line


@every
def test_a_client_is_built_and_passes_its_own_tests(language: str) -> None:
    built(language)


# -- all languages on one pipeline


def line(number: int, wallet: str, **more: object) -> dict[str, object]:
    """A transaction as `wallet send` takes it."""
    return {
        "transaction_id": f"00000000-0000-4000-8000-{number:012d}",
        "wallet_id": wallet,
        "type": "CREDIT",
        "amount": 100 + number % 900,
        "currency": "EUR",
        "occurred_at": "2026-11-22T10:00:00.000001+01:00",
        **more,
    }


def lines(at: int, language: str) -> Iterator[dict[str, object]]:
    """What a language sends: in wallets of its own and in those of all, which have names of every length of UTF-8."""
    shared = ("alice", "Zo\u00eb", "Zoe\u0308", "\u94b1\u5305-42", "\U0001f4b6")
    for number in range(LINES):
        wallet = shared[number % 5] if number % 3 else f"{language} \u00fc {number % 40}"
        more: dict[str, object] = {"type": "DEBIT"} if number % 4 == 1 else {}
        if number % 7 == 0:
            more["group_id"] = f"Miete \u20ac {number}"
        if number % 11 == 0:
            more["metadata"] = {"b": "\U0001f4b6" * (number % 50), "": "empty", "a": "\n"}
        if number % 13 == 0:
            more["amount"] = str(2**53 + number)  # as text: JavaScript's numbers end before it
        yield line(at * 1_000_000 + number, wallet, **more)
    yield line(at * 1_000_000 + LINES - 1, f"{language} twice")
    yield line(at * 1_000_000 + LINES - 1, f"{language} twice")
    metadata = {"x": "1", "y": "2"} if at % 2 else {"y": "2", "x": "1"}
    yield line(999_999_999, "alice", metadata=metadata)


def evolve(settings: Settings) -> None:
    """The subjects' newest schemas are no longer those that the clients know."""
    registry = Registry.of(settings)
    assert registry
    for name, subject in subjects(settings).items():
        schema = json.loads(schema_text(name))
        schema["fields"].append({"name": "channel", "type": ["null", "string"], "default": None})
        registry.register(subject, json.dumps(schema))


@pytest.fixture(params=["fixed ids", "ids of a registry", "Apicurio"])
def pipeline(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A pipeline's settings after `wallet init`."""
    if request.param == "fixed ids":
        done(settings, tmp_path, "init")
        yield settings
    elif request.param == "Apicurio":
        with apicurio.running(tmp_path / "apicurio") as url:
            settings = settings.model_copy(update={"registry": url})
            done(settings, tmp_path, "init")
            evolve(settings)
            yield settings
    else:
        with registry_server.running(100) as registry:
            secret = SecretStr("user:pa$s:w@rd")
            settings = settings.model_copy(update={"registry": registry.url, "registry_auth": secret})
            done(settings, tmp_path, "init")
            yield settings
        assert len(registry.authorization) == 1, "all say who they are in the same way"


def test_what_every_language_sends_every_language_reads(
    pipeline: Settings, languages: list[str], environment: Environment, tmp_path: Path
) -> None:
    env = environment(pipeline)
    sent: list[dict[str, Any]] = []
    with (
        Worker(pipeline, tmp_path / "sink.log", "sink") as sink,
        Worker(pipeline, tmp_path / "worker.log") as worker,
    ):
        for at, language in enumerate(languages):
            file, these = tmp_path / f"{language}.jsonl", [*lines(at, language)]
            file.write_text(
                "\n".join(json.dumps(one, ensure_ascii=at % 2 == 0) for one in these) + "\n\n", "utf-8"
            )
            assert says(client(language, env, "produce", str(file))) == (
                f"{len(these)} transactions sent, each confirmed\n"
            )
            sent += these
        wait_until(lambda: decided(pipeline) == len(sent), "all input is decided", worker.check_runs)
        wait_until(lambda: written(pipeline), "all rows are written", sink.check_runs)
        worker.stop()
        sink.stop()

    entries = {(one["wallet_id"], one["transaction_id"]) for one in sent}
    wallets = {wallet for wallet, _ in entries}
    reasons = Counter(reason(one.headers) for one in rejected(pipeline))
    assert reasons == {b"DUPLICATE": len(sent) - len(entries)}
    for language in languages:
        assert says(client(language, env, "read")) == (
            f"{len(entries)} entries of {len(wallets)} wallets, every hash follows\n"
        ), language
    assert "everything is as the input says" in done(pipeline, tmp_path, "verify")


def rejected(settings: Settings) -> Iterator[Any]:
    """The records of the rejections topic."""
    return map(incoming, read_all(settings, Topics.of(settings).rejections, settings.partitions))


def reason(headers: tuple[tuple[str, bytes | None], ...]) -> bytes | None:
    return dict(headers)["rejection.reason"]


# -- what is wrong is told


@every
def test_a_bad_line_is_named_and_nothing_of_its_file_is_sent(
    language: str, kafka_only_settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    built(language)
    make_topics(kafka_only_settings)
    env, file = environment(kafka_only_settings), tmp_path / "bad.jsonl"
    for bad in (
        json.dumps(line(2, "bob", amount=0)),
        json.dumps(line(2, "bob", amount=2**63)),
        json.dumps(line(2, "bob", amount=1.5)),
        json.dumps(line(2, "b\0b")),
        json.dumps(line(2, "b\ud83d")),
        json.dumps(line(2, "bob", group_id="")),
        json.dumps(line(2, "bob", cents=1)),
        json.dumps(line(2, "bob", occurred_at="2026-11-22T10:00:00")),
        json.dumps(line(2, "bob", metadata={"large": "x" * 262_144})),
        json.dumps(line(2, "bob"))[:-1] + ', "amount": 5}',
        json.dumps(line(2, "bob"))[:-1],
    ):
        file.write_text(f"{json.dumps(line(1, 'alice'))}\n{bad}\n")
        assert refuses(client(language, env, "produce", str(file))).startswith("line 2: "), bad
    file.write_bytes(json.dumps(line(1, "alice")).encode() + b'\n{"wallet_id": "\xff"}\n')
    refuses(client(language, env, "produce", str(file)))
    refuses(client(language, env, "produce", str(tmp_path / "nothing.jsonl")))
    refuses(client(language, env, "produce"))
    refuses(client(language, env, "consume"))
    topic = Topics.of(kafka_only_settings).transactions
    assert [*read_all(kafka_only_settings, topic, kafka_only_settings.partitions)] == []


@every
def test_a_pipeline_or_server_that_is_not_there_is_told(
    language: str, kafka_only_settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    built(language)
    file = tmp_path / "good.jsonl"
    file.write_text(json.dumps(line(1, "alice")))
    there = environment(kafka_only_settings)
    for env in (
        there,
        there | {"WALLET_KAFKA": "127.0.0.1:1"},
        there | {"WALLET_REGISTRY": "http://127.0.0.1:1"},
    ):
        for words in (("produce", str(file)), ("read",)):
            refuses(client(language, env, *words))
    with registry_server.running() as registry:  # nobody has registered anything in it
        told = refuses(client(language, there | {"WALLET_REGISTRY": registry.url}, "read"))
        assert "404" in told


def unanswered(ended: Event) -> Callable[[Any, bytes], None]:
    """The body of an answer that does not come before the test is over."""

    def wait(file: Any, answer: bytes) -> None:
        ended.wait(PATIENCE_S)
        with suppress(OSError):
            file.write(answer)

    return wait


@every
def test_a_registry_that_does_not_serve_is_told(
    language: str, kafka_only_settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    built(language)
    make_topics(kafka_only_settings)
    file, ended = tmp_path / "good.jsonl", Event()
    file.write_text(json.dumps(line(1, "alice")))
    with registry_server.running() as registry:
        env = environment(kafka_only_settings) | {"WALLET_REGISTRY": registry.url}
        for words in (("produce", str(file)), ("read",)):
            for status in (500, 401):
                registry.before = [(status, {"message": "no"})]
                assert str(status) in refuses(client(language, env, *words))
            registry.before = [(200, "no object")]
            assert "registry" in refuses(client(language, env, *words))
        registry.before, registry.send = [(200, {"id": 1})], unanswered(ended)  # headers, and then nothing
        try:
            assert "registry" in refuses(client(language, env, "read"))
        finally:
            ended.set()
    topic = Topics.of(kafka_only_settings).transactions
    assert [*read_all(kafka_only_settings, topic, kafka_only_settings.partitions)] == []


# -- a secured broker

PASSWORD = 'a "pass\\word" = that, no log may show'  # noqa: S105 - JAAS and SCRAM must escape it


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedBroker]:
    with encrypted.running(tmp_path_factory.mktemp("secured") / "kafka", CACHE) as broker:
        yield broker


@every
def test_a_secured_broker_is_logged_in_at_by_scram_and_by_no_other_password_or_authority(
    language: str, broker: EncryptedBroker, plain_settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    built(language)
    if language == "rust" and not OPENSSL:
        pytest.skip("OpenSSL's headers are not installed")
    settings = broker.scram(plain_settings, PASSWORD)
    make_topics(settings)
    env, file = environment(settings), tmp_path / "good.jsonl"
    file.write_text("".join(json.dumps(line(number, "alice")) + "\n" for number in range(100)))
    assert says(client(language, env, "produce", str(file))) == "100 transactions sent, each confirmed\n"
    entries = Ledger(1).post_many(40, wallets=4)
    publish(settings, Topics.of(settings).ledger, ((1, *record(one), []) for one in entries.written))
    assert says(client(language, env, "read")) == "40 entries of 4 wallets, every hash follows\n"

    other = Authority(tmp_path / "elsewhere", "other").certificate
    for wrong in ({"WALLET_KAFKA_SASL_PASSWORD": "wrong"}, {"WALLET_KAFKA_SSL_CA": str(other)}):
        for words in (("produce", str(file)), ("read",)):
            assert PASSWORD not in refuses(client(language, env | wrong, *words))
    topic = Topics.of(settings).transactions
    assert len([*read_all(settings, topic, settings.partitions)]) == 100


# -- what does not follow


def forged(ledger: Ledger, at: int, *, sequence: int = 0, balance: int = 0) -> bytes:
    """An entry's value with other numbers, and a hash that follows all the same."""
    entry = ledger.written[at].entry
    before = [
        one.entry
        for one in ledger.written[:at]
        if one.entry.transaction.wallet_id == entry.transaction.wallet_id
    ]
    body = encode_entry(
        encode_transaction(entry.transaction),
        entry.sequence + sequence,
        entry.balance + balance,
        entry.recorded_ms,
        entry.source_partition,
        entry.source_offset,
    )
    return LEDGER_FRAME + body + chain(before[-1].hash, body)


@pytest.mark.parametrize(
    ("what", "offset"),
    [
        ("nothing", None),
        ("gone", 23),  # the wallet's next entry does not follow
        ("twice", 21),
        ("another hash", 20),
        ("another sequence", 20),
        ("another balance", 20),
        ("another key", 20),
        ("another schema", 20),
        ("a byte less", 20),
    ],
)
def test_what_does_not_follow_is_named_by_partition_and_offset(
    what: str,
    offset: int | None,
    languages: list[str],
    kafka_only_settings: Settings,
    environment: Environment,
) -> None:
    ledger = Ledger(2).post_many(60, wallets=4)
    values = [LEDGER_FRAME + one.body for one in ledger.written]
    keys = [one.entry.transaction.wallet_id.encode() for one in ledger.written]
    value = values[20]
    changed = {
        "another hash": value[:-1] + bytes([value[-1] ^ 1]),
        "another sequence": forged(ledger, 20, sequence=1),
        "another balance": forged(ledger, 20, balance=1),
        "another schema": b"\0\0\0\0\3" + value[5:],
        "a byte less": value[:-1],
    }
    values[20] = changed.get(what, value)
    keys[20] = b"alice" if what == "another key" else keys[20]
    records: list[Record] = [(2, key, value, []) for key, value in zip(keys, values, strict=True)]
    records[20:21] = {"gone": [], "twice": 2 * records[20:21]}.get(what, records[20:21])
    make_topics(kafka_only_settings)
    topic = Topics.of(kafka_only_settings).ledger
    publish(kafka_only_settings, topic, records)

    env = environment(kafka_only_settings)
    for language in languages:
        ran = client(language, env, "read")
        if offset is None:
            assert says(ran) == "60 entries of 4 wallets, every hash follows\n", language
        else:
            assert f"{topic} 2:{offset}: " in refuses(ran), language


def test_what_is_rolled_back_is_not_read(
    languages: list[str], kafka_only_settings: Settings, environment: Environment
) -> None:
    make_topics(kafka_only_settings)
    topic, env = Topics.of(kafka_only_settings).ledger, environment(kafka_only_settings)

    def all_read(wanted: str, *, waiting: bool = True) -> None:
        for language in languages:
            if waiting or not CLIENTS[language].waits:
                assert says(client(language, env, "read")) == f"{wanted}, every hash follows\n", language

    all_read("0 entries of 0 wallets")
    entries = Ledger(1).post_many(40, wallets=4)
    publish(kafka_only_settings, topic, ((1, *record(one), []) for one in entries.written[:30]))
    with open_transaction(kafka_only_settings, topic, as_record(transaction(1, "no entry at all"))):
        waiting = [started(language, env, "read") for language in languages if CLIENTS[language].waits]
        all_read("30 entries of 4 wallets", waiting=False)  # what is open lies after the end
    assert [says(ended(one)) for one in waiting] == len(waiting) * [
        "30 entries of 4 wallets, every hash follows\n"
    ]
    all_read("30 entries of 4 wallets")
    publish(kafka_only_settings, topic, ((1, *record(one), []) for one in entries.written[30:]))
    all_read("40 entries of 4 wallets")


def record(one: Written) -> tuple[bytes, bytes]:
    """Key and value of an entry."""
    return one.entry.transaction.wallet_id.encode(), LEDGER_FRAME + one.body


# -- a broker that dies meanwhile


@every
def test_a_broker_that_dies_meanwhile_loses_nothing_and_doubles_nothing(
    language: str, own_stack: Stack, own_settings: Settings, environment: Environment, tmp_path: Path
) -> None:
    built(language)
    make_topics(own_settings)
    env, file, count = environment(own_settings), tmp_path / "many.jsonl", 200_000
    with file.open("w") as output:
        output.writelines(
            json.dumps(line(number, f"wallet {number % 500}")) + "\n" for number in range(count)
        )
    topic = Topics.of(own_settings).transactions

    def there() -> int:
        return sum(
            at.end for at in offsets(quiet_admin(own_settings), {topic: own_settings.partitions}).values()
        )

    process = started(language, env, "produce", str(file))
    wait_until(lambda: there() > 0 or process.poll() is not None, "something is sent")
    own_stack.kill("kafka")
    assert process.poll() is None, "it was sent before the broker could be killed: send more"
    own_stack.start("kafka")
    assert says(ended(process)) == f"{count} transactions sent, each confirmed\n"
    sent = [incoming(one).value for one in read_all(own_settings, topic, own_settings.partitions)]
    assert (len(sent), len(set(sent))) == (count, count)
