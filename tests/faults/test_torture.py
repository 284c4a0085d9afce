"""The pipeline under a schedule of faults, with a Kafka and a PostgreSQL of its own to kill, and an audit at the end.

`make torture` plays any other schedule; docs/reliability.md has what longer runs measured.
"""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import FOLDER
from tests.faults.schedule import schedule
from tests.faults.torture import run

pytestmark = pytest.mark.integration

#: Its schedule begins with what hurts most: servers and programs killed, a backup restored, answers lost.
SEED = 42
#: Records a second; other tests want the machine, too.
RATE = 200


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Kept when the test fails, for its logs. Not in tmp_path, which Postgres as another user could not reach."""
    folder = FOLDER / "torture" / f"test-{secrets.token_hex(4)}"
    failed = request.session.testsfailed
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder)


@pytest.mark.timeout(360)
def test_seventy_five_seconds_of_faults_leave_everything_exact(folder: Path) -> None:
    faults = schedule(SEED, 75)
    report = run(faults, 75, folder, seed=SEED, brokers=1, rate=RATE, say=print)
    assert report.clean, str(report)
    assert report.faults.total() + len(report.skipped) == len(faults)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("brokers", [1, 3])
def test_four_minutes_of_faults_leave_everything_exact(folder: Path, brokers: int) -> None:
    faults = schedule(SEED, 240, brokers)
    report = run(faults, 240, folder, seed=SEED, brokers=brokers, rate=RATE, say=print)
    assert report.clean, str(report)
