"""`make release`: wheels, sdist and bill of materials, tried in an empty environment; refused without a changelog."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.full,
    pytest.mark.timeout(1800),  # all dependencies are fetched
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The last commit, where tags of the test's own do no harm."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in a git repository")
    git(tmp_path, "clone", "--quiet", str(ROOT), "clone")
    return tmp_path / "clone"


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def release(clone: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "DIST": "dist"}
    return subprocess.run(
        [".ci/release"], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )


def test_what_is_built_from_a_tag_has_its_version_and_the_compiled_part(clone: Path) -> None:
    git(clone, "tag", "v7.8.9")
    (clone / "CHANGELOG.md").write_text("## 7.8.9 (2026-11-28)\n")
    git(clone, "update-index", "--assume-unchanged", "CHANGELOG.md")  # a version names what is changed
    done = release(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    dist = clone / "dist"
    (wheel,) = dist.glob("wallet_ledger-7.8.9-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if re.search(r"/schemas/native/_native\..*so$", name)]
    assert (dist / "wallet_client-7.8.9-py3-none-any.whl").exists()
    assert (dist / "wallet_ledger-7.8.9.tar.gz").exists()
    bill = json.loads((dist / "sbom.cdx.json").read_text())
    assert bill["metadata"]["component"]["version"] == "7.8.9"


def test_a_tag_without_a_section_in_the_changelog_is_refused(clone: Path) -> None:
    git(clone, "tag", "v7.8.9")
    done = release(clone)
    assert done.returncode == 1
    assert done.stderr == 'CHANGELOG.md has no section "## 7.8.9 (date)"\n'
    assert not (clone / "dist").exists()
