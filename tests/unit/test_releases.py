"""Versions from tags, the licences of what is installed, the bill of materials, and an image for every processor."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from operations.release import inventory

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.txt"
PAGE = ROOT / "docs" / "licences.md"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
#: LGPL: imported as published, so nothing is asked of us but to name it. Think before you add one.
COPYLEFT = ["psycopg", "psycopg-binary", "psycopg-pool"]


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=us", "-c", "user.email=us@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def version(folder: Path) -> str:
    command = [sys.executable, "-m", "setuptools_scm"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_version_is_the_tag_and_without_one_it_is_no_releases(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert version(tmp_path) == "0.1.0.dev0"
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "first")
    assert re.fullmatch(r"0\.1\.0\.dev1\+g\w+", version(tmp_path))
    git(tmp_path, "tag", "v1.2.0")
    assert version(tmp_path) == "1.2.0"
    git(tmp_path, "commit", "--allow-empty", "--message", "second")
    assert re.fullmatch(r"1\.2\.1\.dev1\+g\w+", version(tmp_path))


def test_what_is_built_without_git_has_the_same_version_everywhere() -> None:
    places = [ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml"]
    fallbacks = {tomllib.loads(p.read_text())["tool"]["setuptools_scm"]["fallback_version"] for p in places}
    assert {*re.findall(r"^ARG VERSION=(.+)$", DOCKERFILE, re.MULTILINE)} == fallbacks
    assert len(fallbacks) == 1


def test_every_dependency_of_the_lock_is_on_the_page_with_its_version_and_licence() -> None:
    pinned = re.findall(r"^([\w.-]+)==(\S+) (?!; sys_platform == 'win32')", LOCK.read_text(), re.MULTILINE)
    rows = re.findall(r"^\| (\S+) \| (\d\S*) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    there = {name: found for name, found, _ in rows}
    assert {name for name, _ in pinned} == there.keys(), "make licences"
    assert [name for name in there if (name, there[name]) not in pinned] == [], "make licences"
    assert [name for name, _, licence in rows if licence == "not stated"] == []


def test_no_licence_with_copyleft_comes_in_unnoticed() -> None:
    assert inventory.copyleft(inventory.installed(LOCK)) == COPYLEFT
    assert f"Copyleft: {', '.join(COPYLEFT)}.\n" in PAGE.read_text()


@pytest.mark.parametrize(
    "licence",
    [
        "GPL-2.0-only",
        "GNU Lesser General Public License v3 (LGPLv3)",
        "AGPL-3.0",
        "MPL-2.0",
        "EPL-2.0",
        "GPLv3",
    ],
)
def test_licences_with_copyleft_are_known(licence: str) -> None:
    assert inventory.copyleft([inventory.Package("one", "1", licence, "")]) == ["one"]


def test_the_bill_of_materials_names_what_is_installed(tmp_path: Path) -> None:
    bill = inventory.sbom(inventory.installed(LOCK))
    assert bill["metadata"]["component"]["name"] == "wallet-ledger"
    components = {one["name"]: one for one in bill["components"]}
    assert {"aiokafka", "confluent-kafka", "rocksdict"} <= components.keys() <= inventory.locked(LOCK)
    assert components["aiokafka"]["purl"] == "pkg:pypi/aiokafka@0.14.0"
    assert components["aiokafka"]["licenses"] == [{"license": {"name": "Apache-2.0"}}]

    status = tmp_path / "status"
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    )
    assert [one.purl for one in inventory.debian(status)] == ["pkg:deb/debian/libc6@2.36-9?arch=amd64"]


def test_nothing_in_the_dockerfile_names_a_processor() -> None:
    assert not re.search(r"amd64|x86|i386|arm|aarch|--platform", DOCKERFILE, re.IGNORECASE)


def test_the_service_is_not_for_other_peoples_environments() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Private :: Do Not Upload" in project["classifiers"]
