"""Schema ids: fixed without a registry; with one (Confluent's API), the ids that its subjects list.

Subjects are `<topic>-value`. Only `register`, which `wallet init` calls, writes to a registry.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event
from typing import TypeVar

from config.asking import ask_again, growing
from config.errors import NotReachable, Refused
from config.logs import EventLog
from config.settings import Settings
from schemas.references import SCHEMA_BYTES
from schemas.registry_api import (
    SCHEMA_ID_MAX,
    Declined,
    NotAllowed,
    NotFound,
    Registry,
    RegistryAway,
    Version,
)
from schemas.versions import FIXED_IDS, NAMES, SchemaIds, SchemaName, schema_text
from schemas.writers import NotATransaction, WriterSchema
from topics.names import Topics

COMPATIBILITY = "FULL_TRANSITIVE"
#: Known and unknown ids to remember, of each kind.
REMEMBERED = 1_000

T = TypeVar("T")
log = EventLog("schemas.registry")


def subjects(settings: Settings) -> dict[SchemaName, str]:
    """The registry's subject of each schema."""
    topics = Topics.of(settings)
    topic_names = (topics.transactions, topics.ledger, topics.balances, topics.snapshots)
    return {name: f"{topic}-value" for name, topic in zip(NAMES, topic_names, strict=True)}


def schema_ids(settings: Settings) -> SchemaIds:
    """The ids to write with, as `wallet init` registered them.

    Raises Refused if they are not registered, NotReachable if the registry stays away for longer than
    WALLET_STARTUP_WAIT_S.
    """

    def registered(registry: Registry, subject: str, text: str) -> int:
        try:
            return registry.id_of(subject, text)
        except NotFound as error:
            raise Refused(
                f"{registry.url} does not list our schema in {subject}: run `wallet init`"
            ) from error

    return _for_each_schema(settings, registered)


def register(settings: Settings) -> SchemaIds:
    """Register the four schemas, whose later versions must be FULL_TRANSITIVE; repeating it changes nothing.

    Raises Refused if the registry declines one, NotReachable as `schema_ids` does.
    """

    def registered(registry: Registry, subject: str, text: str) -> int:
        # 1. So that nothing incompatible slips in. 2. Apicurio has forgotten it if the subject is new.
        registry.set_compatibility(subject, COMPATIBILITY)
        schema_id = registry.register(subject, text)
        registry.set_compatibility(subject, COMPATIBILITY)
        return schema_id

    return _for_each_schema(settings, registered)


def _for_each_schema(settings: Settings, ask: Callable[[Registry, str, str], int]) -> SchemaIds:
    registry = Registry.of(settings)
    if registry is None:
        return FIXED_IDS
    ids: list[int] = []
    left = subjects(settings)

    def ask_the_rest() -> None:
        for name, subject in [*left.items()]:
            try:
                ids.append(ask(registry, subject, schema_text(name)))
            except NotAllowed as error:
                raise Refused(
                    f"{registry.url} denies access to {subject}: {error}: set WALLET_REGISTRY_AUTH to a user and "
                    "password that may read it (for `wallet init`, write it)"
                ) from error
            except Declined as error:
                raise Refused(f"{registry.url} declines our schema in {subject}: {error}") from error
            del left[name]

    def say(error: Exception) -> None:
        log.warning("waiting_for_registry", asked=f"the ids of {next(iter(left.values()))}", reason=error)

    try:
        ask_again(
            ask_the_rest,
            RegistryAway,
            growing(settings.retry_wait_s),
            settings.startup_wait_s,
            waiting=say,
        )
    except RegistryAway as error:
        raise NotReachable(f"no registry within WALLET_STARTUP_WAIT_S: {error}") from error
    return SchemaIds(*ids)


class Writers:
    """Looks ids up in the registry: called with an id, returns its schema or None.

    An id counts if the input topic's subject lists it, or has listed it; without a registry only id 1 does. Ids never
    change their meaning, so schemas are remembered for the life of the process. That an id is unknown is remembered
    until `forget_unknown`, called after each fetch: a producer registers its schema before it first sends, so an
    answer is certain for records fetched before the question.

    Only the registry's "no such id" makes an id unknown. While the registry is away, or declines to answer, the call
    waits and asks again, with a warning each time, until `abandon` (by default `stop`) is set: then it raises
    NotReachable. `listed` does the same with its own `stop`.
    """

    def __init__(self, settings: Settings, stop: Event | None = None, abandon: Event | None = None) -> None:
        self._registry = Registry.of(settings)
        self._subject = subjects(settings)["transaction"]
        self._longest_pause_s = settings.retry_wait_s
        self._stop = stop or Event()
        self._abandon = abandon or self._stop
        #: What a call waits for at the moment, for readiness and the watchdog; None if nothing.
        self.waits_for: str | None = None
        self._known: dict[int, WriterSchema | None] = {}
        self._unknown: dict[int, None] = {}
        if self._registry is None:
            self._known[FIXED_IDS.transaction] = WriterSchema(schema_text("transaction", 1))

    def __call__(self, schema_id: int) -> WriterSchema | None:
        """The schema of this id, or None if it is not a Transaction's."""
        # Threads share this, and another one may be clearing it right now.
        with suppress(KeyError):
            return self._known[schema_id]
        registry, unknown = self._registry, self._unknown
        if registry is None or schema_id > SCHEMA_ID_MAX or schema_id in unknown:
            return None
        try:
            writer = self._wait_for(
                f"what schema id {schema_id} is", lambda: self._answer(registry, schema_id), self._abandon
            )
        except NotFound:
            # Into the dict of before the question: if it was replaced meanwhile, the id stays forgotten.
            _remember(unknown, schema_id, None)
            return None
        _remember(self._known, schema_id, writer)
        return writer

    def forget_unknown(self) -> None:
        """Ask again about ids that were unknown; call it after fetching records, before decoding them."""
        self._unknown = {}

    def listed(self, stop: Event) -> dict[int, WriterSchema]:
        """The schemas of all ids that the input topic's subject lists or has listed: those that counted in releases
        that kept no log of them.
        """
        registry, found = self._registry, dict[int, WriterSchema]()
        if registry is None:
            return found
        for version in self._wait_for(f"what {self._subject} lists", lambda: self._versions(registry), stop):
            with suppress(ValueError):
                whole = self._wait_for(f"what {self._subject} lists", partial(registry.whole, version), stop)
                found[version.schema_id] = WriterSchema(whole)
        return found

    def _answer(self, registry: Registry, schema_id: int) -> WriterSchema | None:
        if self._subject not in registry.subjects_of(schema_id):
            raise NotFound
        try:
            return usable(registry.schema(schema_id))
        except ValueError as error:
            log.warning("schema_unreadable", schema_id=schema_id, subject=self._subject, reason=error)
            return None

    def _versions(self, registry: Registry) -> list[Version]:
        try:
            return [registry.version(self._subject, number) for number in registry.versions(self._subject)]
        except NotFound:
            return []

    def _wait_for(self, what: str, ask: Callable[[], T], stop: Event) -> T:
        def say(error: Exception) -> None:
            self.waits_for = f"the registry to say {what}"
            log.warning("waiting_for_registry", asked=what, reason=error)

        told = NotReachable("stopped while waiting for the registry")
        pauses, on = growing(self._longest_pause_s), (RegistryAway, Declined)
        try:
            return ask_again(ask, on, pauses, stop=stop, waiting=say, stopped=told)
        finally:
            self.waits_for = None


def usable(text: str) -> WriterSchema:
    """A producer's schema that may be accepted; raises NotATransaction."""
    if len(text.encode("utf-8", "surrogatepass")) > SCHEMA_BYTES:
        raise NotATransaction(f"it is larger than {SCHEMA_BYTES} bytes")
    writer = WriterSchema(text)
    if hidden := writer.hides:
        raise NotATransaction(hidden)
    return writer


def _remember(memory: dict[int, T], schema_id: int, answer: T) -> None:
    if len(memory) >= REMEMBERED:
        memory.clear()
    memory[schema_id] = answer
