"""An operator who looks into the brokers' logs, and does what the runbook says.

One thing only: a coordinator that is out of order for good is mended by a restart of its broker, and by nothing else
(docs/operations/runbooks/lost-broker.md, "A group gives no share").
"""

import threading
from collections import Counter
from pathlib import Path

from tests.faults.scene import Scene
from tests.faults.schedule import Fault

OUT_OF_ORDER = b"because context is in FAILED state"
LOOK_S = 5.0


class Operator:
    """Looks every few seconds until it is stopped; what it did is told in the report."""

    def __init__(self, scene: Scene, servers: Path) -> None:
        self._scene, self._servers = scene, servers
        self._seen: Counter[int] = Counter()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="operator")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_S):
            for node in self._scene.cluster.nodes:
                log = self._servers / f"kafka-{node}" / "kafka.log"
                failed = log.read_bytes().count(OUT_OF_ORDER) if log.exists() else 0
                if failed > self._seen[node]:
                    self._restart(node)
                self._seen[node] = failed

    def _restart(self, node: int) -> None:
        with self._scene.alone_with(Fault(0.0, "coordinator_restarted", f"broker-{node}", 0.0, 0)):
            self._scene.cluster.kill(node)
            self._scene.cluster.start(node)
        self._scene.told["brokers restarted whose coordinator was out of order"] += 1
