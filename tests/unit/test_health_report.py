"""The HTTP answers about a subject that the test controls, beside a Kafka that is away."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric

from config import ready
from config.errors import ConfigurationError
from config.settings import Settings
from tests.ledgers import wait_until
from vitals.health import observed
from vitals.metrics import gauge
from vitals.watchdog import Look, Standing


class Subject:
    """Ready or not, as it is told."""

    role = "worker"
    oldest = None

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.stands: list[Standing] = []
        self.broken = False

    def standings(self) -> list[Standing]:
        if self.broken:
            raise RuntimeError("cannot tell")
        return self.stands

    def not_ready(self, look: Look) -> list[str]:  # noqa: ARG002 - the signature is the protocol's
        return list(self.reasons)

    def families(self) -> Iterable[Metric]:
        family = gauge("wallet_test_answer", "What is told at the moment.")
        family.add_metric([], 42)
        return [family]


@pytest.fixture
def watched(plain_settings: Settings) -> Settings:
    return plain_settings.model_copy(update={"http_port": 0, "watchdog_s": 1.0, "kafka": "127.0.0.1:1"})


def ask(address: str | None, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_ready_says_why_not_until_it_is(watched: Settings) -> None:
    subject = Subject()
    subject.reasons = ["partition 3 is being opened", "the group is silent"]
    with observed(watched, subject) as address:
        wait_until(lambda: "just started" not in ask(address, "/ready")[1], "the watchdog has looked")
        assert ask(address, "/ready") == (503, "partition 3 is being opened\nthe group is silent\n")
        assert "wallet_worker_ready 0.0" in ask(address, "/metrics")[1]
        subject.reasons = []
        assert ask(address, "/ready") == (200, "ready\n")
        assert "wallet_worker_ready 1.0" in ask(address, "/metrics")[1]


def test_a_containers_health_check_passes_or_tells_the_reasons(
    watched: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = Subject()
    with observed(watched, subject) as address:
        port = str(address).rpartition(":")[2]
        wait_until(lambda: ask(address, "/ready")[0] == 200, "it is ready")
        assert (ready.main(port), capsys.readouterr().out) == (0, "ready\n")
        subject.reasons = ["partition 3 is being opened", "the group is silent"]
        assert (ready.main(port), capsys.readouterr().out) == (
            1,
            "partition 3 is being opened\nthe group is silent\n",
        )
    told = f"nothing answers on port {port} ([Errno 111] Connection refused): see the process's log\n"
    assert (ready.main(port), capsys.readouterr().out) == (1, told)


def test_kafka_that_does_not_tell_the_ends_is_a_reason_and_no_stall(watched: Settings) -> None:
    subject = Subject()
    subject.stands = [Standing("worker", "topic", 0, 5)]
    with observed(watched, subject) as address:
        wait_until(lambda: "Kafka does not answer" in ask(address, "/ready")[1], "it says so")
        metrics = ask(address, "/metrics")[1]
        assert "wallet_worker_kafka_answers 0.0" in metrics
        assert 'wallet_worker_position{partition="0"} 5.0' in metrics
        assert "wallet_worker_lag_records{" not in metrics


def test_a_subject_that_cannot_tell_how_it_stands_ends_neither_watchdog_nor_answers(
    watched: Settings,
) -> None:
    subject = Subject()
    subject.broken = True
    with observed(watched, subject) as address:
        told = (503, "the watchdog cannot look: RuntimeError: cannot tell\n")
        wait_until(lambda: ask(address, "/ready") == told, "it says so")
        assert ask(address, "/live") == (200, "live\n")
        subject.broken = False
        wait_until(lambda: ask(address, "/ready")[0] == 200, "it looks again")


def test_metrics_are_those_of_the_process_and_of_the_moment(watched: Settings) -> None:
    with observed(watched, Subject()) as address:
        status, metrics = ask(address, "/metrics")
    assert status == 200
    assert "wallet_test_answer 42.0" in metrics
    assert "process_resident_memory_bytes" in metrics
    assert f'pipeline="{watched.prefix}"' in metrics
    assert "_created" not in metrics


def test_other_paths_are_told_what_there_is(watched: Settings) -> None:
    with observed(watched, Subject()) as address:
        assert ask(address, "/table") == (404, "there are /live, /ready and /metrics\n")
        assert ask(address, "/live?verbose=1")[0] == 200


def test_a_free_port_is_written_down_as_prometheus_reads_it_and_forgotten_at_the_end(
    watched: Settings,
) -> None:
    folder = watched.state_dir / "http"
    folder.mkdir(parents=True)
    abandoned = folder / f"worker-{2**22 + 1}.json"  # beyond the largest process id there can be
    abandoned.touch()
    with observed(watched, Subject()) as address:
        (note,) = folder.iterdir()
        assert note.name == f"worker-{os.getpid()}.json"
        assert json.loads(note.read_text()) == [
            {"targets": [address], "labels": {"role": "worker", "pipeline": watched.prefix}}
        ]
    assert list(folder.iterdir()) == []


def test_a_port_of_ones_choice_is_not_written_down(watched: Settings) -> None:
    with observed(watched, Subject()) as free:
        port = int(str(free).rpartition(":")[2])
    chosen = watched.model_copy(update={"http_port": port})
    with observed(chosen, Subject()) as address:
        assert address == f"127.0.0.1:{port}"
        assert list((watched.state_dir / "http").iterdir()) == []


def test_a_taken_port_is_refused_in_one_line(watched: Settings) -> None:
    with observed(watched, Subject()) as address:
        taken = watched.model_copy(update={"http_port": int(str(address).rpartition(":")[2])})
        with (
            pytest.raises(ConfigurationError, match="set WALLET_HTTP_PORT to another port"),
            observed(taken, Subject()),
        ):
            pass


def test_without_a_port_and_without_a_watchdog_nothing_runs(plain_settings: Settings, tmp_path: Path) -> None:
    off = plain_settings.model_copy(update={"http_port": None, "watchdog_s": 0.0})
    with observed(off, Subject()) as address:
        assert address is None
        assert not off.state_dir.exists()


def test_a_state_folder_that_cannot_be_written_does_not_keep_it_from_answering(watched: Settings) -> None:
    watched.state_dir.parent.mkdir(parents=True, exist_ok=True)
    watched.state_dir.write_text("a file where a folder should be")
    with observed(watched, Subject()) as address:
        assert ask(address, "/live")[0] == 200
