"""The last release is upgraded to this one under load, as docs/operations/runbooks/rolling-upgrade.md says it.

`make upgrade FROM=COMMIT`; without it from the last commit before the day of the newest section of CHANGELOG.md, which
until the first tag is what was released last. It is set up in .local/releases, once.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from config.settings import Settings
from operations.cli.context import environment
from tests.conftest import FOLDER
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, Worker, wait_until
from tests.integration.verify_copies import written
from tests.integration.workers import done

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
#: Records that are decided between one step of the upgrade and the next.
BETWEEN = 1_000


def git(*words: str) -> str:
    """What git says, or nothing where it has no such thing."""
    told = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else ""


@pytest.fixture(scope="module")
def release() -> Path:
    """The last release, set up in a folder and an environment of its own."""
    newest = re.search(r"^## (\d{4}-\d\d-\d\d)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    asked = os.environ.get("UPGRADE_FROM") or git("rev-list", "-1", f"--before={newest[1]}T00:00:00Z", "HEAD")
    commit = git("rev-parse", "--verify", "--quiet", f"{asked}^{{commit}}") if asked else ""
    if not commit:
        pytest.skip(f"the last release is not in this clone ({asked or 'a shallow one'}): fetch its commit")
    folder = FOLDER / "releases" / commit[:12]
    folder.mkdir(parents=True, exist_ok=True)
    files = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder), "--skip-old-files"], input=files, check=True)
    made = subprocess.run(["make", "setup"], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


class Earlier(Worker):
    """A command of the last release, which gets the settings that are not the default here."""

    def __init__(self, release: Path, settings: Settings, log: Path, *words: str) -> None:
        self.log = log
        ours, usual = environment(settings), environment(Settings(_env_file=None))
        env = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
        env |= {name: value for name, value in ours.items() if usual.get(name) != value}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(release / ".venv/bin/wallet"), *words],
                cwd=log.parent,  # its packages are its own, not those of the folder that the test runs in
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._ended_by_us = False


def stores(settings: Settings) -> dict[Path, str]:
    """The stores of all workers by what RocksDB called each when it was made."""
    return {file.parent: file.read_text() for file in settings.state_dir.rglob("IDENTITY")}


def test_workers_and_sinks_are_replaced_one_by_one_and_everything_is_exact(
    release: Path, settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"overdraft": "reject", "standbys": 1})

    def old(name: str, *words: str) -> Earlier:
        return Earlier(release, settings, tmp_path / f"{name}.log", *words)

    def sink(name: str) -> Worker:
        return Worker(settings, tmp_path / f"{name}.log", "sink")

    old("old-init", "init").done()
    workers: list[Worker] = [old(f"old-worker-{number}", "worker") for number in range(2)]
    sinks: list[Worker] = [old(f"old-sink-{number}", "sink", "all") for number in range(2)]
    everyone = [*workers, *sinks]
    with Rig(settings, tmp_path) as rig:
        try:
            rig.wait_until_shared_by(2)
            with rig.flowing(300):
                rig.wait_until_further(BETWEEN)
                left = stores(settings)
                assert left
                # 1. the workers, one after another
                for number in range(2):
                    workers[number].stop()
                    rig.wait_until_further(BETWEEN // 2)
                    workers[number] = rig.start()
                    rig.wait_until_shared_by(2)
                    rig.wait_until_further(BETWEEN)
                # 2. and 3. the database, then the sinks: all at once where tables change
                new = {file.name for file in (ROOT / "config/migrations").glob("*.sql")}
                if new - {file.name for file in (release / "config/migrations").glob("*.sql")}:
                    for one in sinks:
                        one.stop()
                    done(settings, tmp_path, "init")
                    sinks = [sink(f"sink-{number}") for number in range(2)]
                    everyone += sinks
                else:
                    done(settings, tmp_path, "init")
                    for number in range(2):
                        sinks[number].stop()
                        sinks[number] = sink(f"sink-{number}")
                        everyone.append(sinks[number])
                        rig.wait_until_further(BETWEEN // 2)
                rig.wait_until_further(BETWEEN)
            rig.wait_until_posted()
            wait_until(lambda: written(settings), "all rows are written", sinks[0].check_runs)
            for one in [*workers, *sinks]:
                one.stop()
        finally:
            for one in everyone:
                one.kill()
    exact = assert_exact(settings)
    assert exact.records == rig.upstream.sent
    assert "everything is as the input says" in done(settings, tmp_path, "verify")
    assert left.items() <= stores(settings).items(), "a store of the release was not gone on with"
