"""The worker beside itself: one input and another, in turn."""

from collections.abc import Sequence

from benchmarks import worker
from benchmarks.contest import Contest
from benchmarks.measurement import Measurement
from benchmarks.place import Place
from benchmarks.rivals.rival import Ready
from benchmarks.worker_contest import Input, topic_of
from operations.sending.generator import ProducerRecord


class LoadContest(Contest[None]):
    """The worker over `load`, and over `other`; there is nothing to be held against each other."""

    def __init__(
        self,
        place: Place,
        prefix: str,
        name: str,
        other_name: str,
        load: Sequence[ProducerRecord],
        other: Sequence[ProducerRecord],
    ) -> None:
        super().__init__(place, name, other_name, "the worker, too")
        self._prefix = prefix
        self._load = topic_of(place, f"{prefix}.load", load)
        self._other = topic_of(place, f"{prefix}.other", other)

    def prepare(self) -> Ready:
        """Nothing is to be fetched."""
        return Ready((), {})

    def ours(self, number: int) -> tuple[Measurement, None]:
        """A new pipeline over the load."""
        return self._measured(f"{self._prefix}-load-{number}", self._load)

    def theirs(self, number: int, ready: Ready) -> tuple[Measurement, None]:  # noqa: ARG002 - the contest's signature
        """A new pipeline over the other one."""
        return self._measured(f"{self._prefix}-other-{number}", self._other)

    def differences(self, ours: None, theirs: None) -> list[str]:  # noqa: ARG002 - the contest's signature
        """Two inputs have two results."""
        return []

    def _measured(self, prefix: str, source: Input) -> tuple[Measurement, None]:
        settings = self.place.pipeline(prefix, input=source.topic)
        return worker.measure(self.place, settings, "worker", source.records), None
