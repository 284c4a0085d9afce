"""What is installed beside this program: as an SBOM, and as a list of licences.

`python -m operations.release.inventory sbom` writes CycloneDX JSON, `licences` a page of Markdown. `--lock FILE` leaves
out what the lock does not name; `--system FILE` adds Debian's packages, of dpkg's list. Nothing in them depends on when
or where they are made.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

OURS = "wallet-ledger"
COPYLEFT = re.compile(
    r"\b(A?GPL|LGPL|MPL|EPL|EUPL|CDDL|OSL|SSPL|CC-BY-SA)|General Public|Mozilla Public", re.IGNORECASE
)

PAGE = f"""# Licences

What `{OURS}` installs, and under which licence, as each package states it. `make licences` writes this page; a test
compares it with the lock. Wheels bring C libraries of their own (librdkafka, libpq, OpenSSL, RocksDB, OpenBLAS and
others), whose licences are in them.

| package | version | licence |
|---|---|---|
"""


class Package(NamedTuple):
    """One installed package; `licence` is empty where it states none."""

    name: str
    version: str
    licence: str
    purl: str


def installed(lock: Path | None = None) -> list[Package]:
    """The Python packages that can be imported here; with `lock` only those it names, and ours."""
    named = locked(lock) | {OURS} if lock else None
    found: dict[str, Package] = {}
    for one in distributions():
        name = _normal(one.metadata["Name"])
        if named is None or name in named:
            found.setdefault(
                name, Package(name, one.version, _licence(one), f"pkg:pypi/{name}@{one.version}")
            )
    return [found[name] for name in sorted(found)]


def locked(lock: Path) -> set[str]:
    """The names in a requirements file, with those that only other systems or Pythons need."""
    return {_normal(name) for name in re.findall(r"^([\w.-]+)==", lock.read_text(), re.MULTILINE)}


def debian(status: Path) -> Iterator[Package]:
    """The packages that dpkg has installed; it does not know their licences."""
    for paragraph in status.read_text().split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            purl = f"pkg:deb/debian/{name}@{version}?arch={fields['Architecture']}"
            yield Package(name, version, "", purl)


def sbom(packages: list[Package]) -> dict[str, Any]:
    """A bill of materials in CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json)."""
    components = [_component(one, "application" if one.name == OURS else "library") for one in packages]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": next(one for one in components if one["name"] == OURS)},
        "components": [one for one in components if one["name"] != OURS],
    }


def _component(package: Package, kind: str) -> dict[str, Any]:
    component = {
        "type": kind,
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
    }
    licences = [{"license": {"name": package.licence}}] if package.licence else []
    return {**component, "licenses": licences} if licences else component


def page(packages: list[Package]) -> str:
    """Every package and its licence, those with copyleft named once more."""
    rows = "".join(
        f"| {one.name} | {one.version} | {one.licence or 'not stated'} |\n"
        for one in packages
        if one.name != OURS
    )
    return PAGE + rows + "\nCopyleft: " + (", ".join(copyleft(packages)) or "none") + ".\n"


def copyleft(packages: list[Package]) -> list[str]:
    """The names of those whose licence asks something of what is built with them."""
    return [one.name for one in packages if COPYLEFT.search(one.licence)]


def _licence(one: Distribution) -> str:
    """The SPDX expression, else the classifiers, else the first line of the text."""
    for expression in one.metadata.get_all("License-Expression") or ():
        return str(expression)
    classifiers = one.metadata.get_all("Classifier") or []
    classified = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    text = (one.metadata.get_all("License") or [""])[0]
    return ", ".join(classified) or text.strip().partition("\n")[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(words: list[str] | None = None) -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m operations.release.inventory", description=__doc__)
    parser.add_argument("what", choices=["sbom", "licences"])
    parser.add_argument("--lock", type=Path, help="only what this requirements file names")
    parser.add_argument("--system", type=Path, help="Debian's packages, too: dpkg's status file")
    given = parser.parse_args(words)
    packages = [*installed(given.lock), *(debian(given.system) if given.system else ())]
    if given.what == "licences":
        sys.stdout.write(page(packages))
    else:
        sys.stdout.write(json.dumps(sbom(packages), indent=1) + "\n")


if __name__ == "__main__":
    main()
