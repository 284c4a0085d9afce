"""Schema ids: fixed without a registry; with one (Confluent's API), those that its subjects list.

Subjects are `<topic>-value`. Only `register`, which `wallet init` calls, writes to a registry.
"""

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import NamedTuple, TypeVar

from config.errors import NotReachable, Refused
from config.settings import Settings
from config.topics import Topics
from schemas.registry_api import SCHEMA_ID_MAX, Declined, NotFound, Registry, RegistryAway
from schemas.versions import NAMES, SchemaName, schema_text
from schemas.writers import NotATransaction, WriterSchema

COMPATIBILITY = "FULL_TRANSITIVE"
#: The first pause between two attempts; doubled up to WALLET_RETRY_WAIT_S.
FIRST_PAUSE_S = 0.1
#: How long an id counts as unknown before the registry is asked again.
UNKNOWN_S = 1.0
#: Ids remembered, of either kind.
REMEMBERED = 1_000

T = TypeVar("T")
log = logging.getLogger(__name__)


class SchemaIds(NamedTuple):
    """The ids in front of the bodies that a pipeline writes."""

    transaction: int
    ledger_entry: int
    balance: int
    snapshot: int


FIXED_IDS = SchemaIds(1, 2, 3, 4)


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
    """Register the four schemas, whose later versions must be FULL_TRANSITIVE; again changes nothing.

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
    deadline = time.monotonic() + settings.startup_wait_s
    ids: list[int] = []
    pause_s = FIRST_PAUSE_S
    waiting = list(subjects(settings).items())
    while waiting:
        name, subject = waiting[0]
        try:
            ids.append(ask(registry, subject, schema_text(name)))
            del waiting[0]
        except Declined as error:
            raise Refused(f"{registry.url} declines our schema in {subject}: {error}") from error
        except RegistryAway as error:
            if time.monotonic() + pause_s > deadline:
                raise NotReachable(f"no registry within WALLET_STARTUP_WAIT_S: {error}") from error
            log.warning("waiting for the registry: %s", error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, settings.retry_wait_s)
    return SchemaIds(*ids)


class Writers:
    """Answers whose schema an id is, for TransactionCodec: called with an id, returns its schema or None.

    An id counts if the input topic's subject lists it; without a registry only id 1 does. Ids never change
    their meaning, so schemas are remembered for the life of the process. That an id is unknown is
    remembered for UNKNOWN_S at most: a producer registers its schema before it first sends, so an answer is
    certain for records fetched before the question. `forget_unknown`, called after each fetch, makes it
    certain for all.

    Only the registry's "no such id" makes an id unknown. While the registry is away, or declines to
    answer, the call waits and asks again, with a warning each time, until `stop` is set: then it raises
    NotReachable.
    """

    def __init__(self, settings: Settings, stop: Event | None = None) -> None:
        self._registry = Registry.of(settings)
        self._subject = subjects(settings)["transaction"]
        self._longest_pause_s = settings.retry_wait_s
        self._stop = stop or Event()
        #: What is waited for at the moment, for readiness and the watchdog; None if nothing is.
        self.waits_for: str | None = None
        self._known: dict[int, WriterSchema | None] = {}
        self._unknown: dict[int, float] = {}
        if self._registry is None:
            self._known[FIXED_IDS.transaction] = WriterSchema(schema_text("transaction", 1))

    def __call__(self, schema_id: int) -> WriterSchema | None:
        """The schema of this id, or None if it is not a Transaction's."""
        if schema_id in self._known:
            return self._known[schema_id]
        if self._registry is None or schema_id > SCHEMA_ID_MAX:
            return None
        unknown, asked_at = self._unknown, time.monotonic()
        if asked_at < unknown.get(schema_id, asked_at):
            return None
        try:
            writer = self._wait_for(self._registry, schema_id)
        finally:
            self.waits_for = None
        if schema_id not in self._known:
            # Into the dict from before the question: what was forgotten meanwhile stays forgotten.
            _remember(unknown, schema_id, asked_at + UNKNOWN_S)
        return writer

    def forget_unknown(self) -> None:
        """Ask again about ids that were unknown; to be called after records are fetched, before decoding."""
        self._unknown = {}

    def _wait_for(self, registry: Registry, schema_id: int) -> WriterSchema | None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                if self._subject not in registry.subjects_of(schema_id):
                    return None
                return self._learn(schema_id, registry.schema(schema_id))
            except NotFound:
                return None
            except (RegistryAway, Declined) as error:
                self.waits_for = f"the registry to say what schema id {schema_id} is"
                log.warning("waiting for the registry to say what schema id %d is: %s", schema_id, error)
            if self._stop.wait(pause_s):
                raise NotReachable(f"stopped while {registry.url} was waited for")
            pause_s = min(2 * pause_s, self._longest_pause_s)

    def _learn(self, schema_id: int, text: str) -> WriterSchema | None:
        try:
            writer = WriterSchema(text)
        except NotATransaction as error:
            log.warning("schema id %d of %s cannot be read: %s", schema_id, self._subject, error)
            writer = None
        _remember(self._known, schema_id, writer)
        return writer


def writers(settings: Settings, stop: Event | None = None) -> Writers:
    """What TransactionCodec asks about schema ids other than the pipeline's."""
    return Writers(settings, stop)


def _remember(memory: dict[int, T], schema_id: int, answer: T) -> None:
    if len(memory) >= REMEMBERED:
        memory.clear()
    memory[schema_id] = answer
