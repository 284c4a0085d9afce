"""What the simulated clients share: their way to the broker, and librdkafka's errors."""

from confluent_kafka import KafkaError, KafkaException

from tests.simulation.broker import Broker
from tests.simulation.processes import Process, Stage

#: A client's configuration.
Value = str | int | float | bool


def failed(
    code: int, *, fatal: bool = False, retriable: bool = False, abortable: bool = False
) -> KafkaException:
    """An error as librdkafka raises it."""
    return KafkaException(KafkaError(code, None, fatal, retriable, abortable))


class Link:
    """A client's way to the broker: it ends with the process that has it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.stage: Stage = broker.stage
        self._process: Process | None = broker.stage.running

    def effect(self, what: str) -> None:
        """As Stage.effect."""
        self.broker.be_back()
        self.stage.effect(what)

    @property
    def alive(self) -> bool:
        """Whether the process lives: a dead one's clean-up reaches nobody."""
        return self._process is None or not self._process.dead
