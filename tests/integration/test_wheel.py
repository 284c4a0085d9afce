"""The wheel in an environment of its own: one name, and everything that the sources can do."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from config.settings import Settings
from tests.integration.exactness import assert_exact
from tests.integration.pipelines import Rig, small

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
OURS = {name.removeprefix("wallet_ledger.app.").partition(".")[0] for name in PROJECT["packages"]}
MADE = ("__pycache__", "*.so", "*.egg-info")
#: A package of this name in the folder where somebody works is theirs.
THEIRS = "raise SystemExit('somebody else is imported')"

pytestmark = pytest.mark.timeout(600)


class Installed:
    """An environment that had nothing but what we depend on."""

    def __init__(self, folder: Path) -> None:
        sources, self._folder = folder / "sources", folder / "environment"
        sources.mkdir()
        for name in ("README.md", "LICENSE"):
            shutil.copy(ROOT / name, sources)
        # Optimizing takes the compiler most of the time that this takes, and changes no name.
        project = (ROOT / "pyproject.toml").read_text()
        (sources / "pyproject.toml").write_text(project.replace('"-O3"', '"-O0"'))
        for name in OURS:
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns(*MADE))
        build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
        done(sys.executable, "-c", build, str(folder), cwd=sources)
        (self.wheel,) = folder.glob("*.whl")
        done(sys.executable, "-m", "venv", str(self._folder))
        (self.packages,) = self._folder.glob("lib/python*/site-packages")
        # A path in such a file is added as it is: what an editable install has put there is not.
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        self.before = {path.name for path in self.packages.iterdir()}
        done(
            self.program("pip"), "install", "--quiet", "--no-deps", "--no-index", str(self.wheel), cwd=folder
        )

    def program(self, name: str) -> str:
        return str(self._folder / "bin" / name)


def done(*command: str, cwd: Path | None = None) -> str:
    """What a command says; it must succeed."""
    told = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder to work in that has packages with our names."""
    folder = tmp_path / "elsewhere"
    for name in OURS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(THEIRS)
    return folder


def test_an_installation_brings_one_name(installed: Installed, tmp_path: Path) -> None:
    names = {path.name for path in installed.packages.iterdir()} - installed.before
    assert {name for name in names if not name.endswith(".dist-info")} == {"wallet_ledger"}
    assert len(names) == 2
    for name in OURS - {"wallet_ledger"}:
        told = subprocess.run(
            [installed.program("python"), "-c", f"import {name}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.stderr.endswith(f"ModuleNotFoundError: No module named '{name}'\n"), told.stderr


def test_every_package_is_in_it_but_what_only_a_release_needs(installed: Installed) -> None:
    app = installed.packages / "wallet_ledger" / "app"
    there = {str(path.relative_to(app)) for path in app.rglob("*.py") if path.parent.name != "__pycache__"}
    ours = {
        str(path.relative_to(ROOT))
        for name in OURS - {"wallet_ledger"}
        for path in (ROOT / name).rglob("*.py")
    }
    assert ours - there == {"operations/release/__init__.py", "operations/release/inventory.py"}
    assert there <= ours


@pytest.mark.parametrize("words", ["--version", "--help", "local --help", "rebuild --help"])
def test_the_command_works_whatever_the_folder(words: str, installed: Installed, elsewhere: Path) -> None:
    told = done(installed.program("wallet"), *words.split(), cwd=elsewhere)
    assert told == "wallet 0.1.0.dev0\n" if words == "--version" else "Usage: wallet" in told


def test_the_health_check_of_the_containers_is_found(installed: Installed, tmp_path: Path) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    _, _, *words, _ = services["worker"]["healthcheck"]["test"]
    told = subprocess.run(
        [installed.program("python"), *words, "1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (1, "")
    assert told.stdout.startswith("nothing answers on port 1 ")


@pytest.fixture
def workers(
    installed: Installed,
    elsewhere: Path,
    kafka_only_settings: Settings,
    environment: Callable[[Settings], dict[str, str]],
    tmp_path: Path,
) -> Iterator[Rig]:
    """A pipeline with two processes of `wallet worker`, started where packages have our names."""
    with Rig(small(kafka_only_settings), tmp_path) as rig, (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            [installed.program("wallet"), "worker", "--processes", "2"],
            cwd=elsewhere,
            env=environment(rig.settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield rig
            running.terminate()
            assert running.wait(60) == 0, (tmp_path / "log").read_text()
        finally:
            running.kill()
            running.wait()


@pytest.mark.integration
def test_workers_start_workers_of_this_very_code(workers: Rig) -> None:
    workers.wait_until_shared_by(2)
    workers.send(500)
    workers.wait_until_posted()
    assert_exact(workers.settings)
