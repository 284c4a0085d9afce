"""What the docs say can be followed: links lead somewhere, commands exist, code compiles, nothing is private.

Code blocks marked sh, console, bash or nothing are searched for commands, those marked python compiled.
"""

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
import typer
from typer.main import get_command

from config import errors
from config.errors import WalletError
from operations import main
from tests.rooms import ROOMS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = ROOT / "docs" / "commands.md"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")

Place = tuple[Path, str]


def _without_code(page: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", BLOCK.sub("", page.read_text("utf-8")))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


def _links() -> Iterator[Place]:
    for page in PAGES:
        for target in LINK.findall(_without_code(page)):
            if not re.match(r"[a-z]+:", target):
                yield page, target


def _blocks(*languages: str) -> Iterator[Place]:
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text("utf-8")):
            if language in languages:
                yield page, text


def _shown_commands() -> Iterator[Place]:
    """What follows each `wallet` in a block of shell, without prompts, pipes, redirections and `$(…)`."""
    for page, text in _blocks("sh", "console", "bash", ""):
        for line in text.replace("\\\n", " ").splitlines():
            for piece in re.split(r"\$\(|\d?>|[<|;&)]", line.removeprefix("$ ")):
                words = itertools.dropwhile(lambda word: "=" in word, _words(piece))
                if next(words, "") == "wallet":
                    yield page, shlex.join(words)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # a quotation that spans lines: no command of ours
        return []


def _mentioned_commands() -> Iterator[Place]:
    """The first word behind every `wallet` in code within a sentence."""
    for page in PAGES:
        for name in re.findall(r"`wallet ([a-z][\w-]*)", BLOCK.sub("", page.read_text("utf-8"))):
            yield page, name


def _named(place: object) -> str:
    return str(place.relative_to(ROOT)) if isinstance(place, Path) else str(place)


@cache
def _root(application: typer.Typer) -> Any:
    return get_command(application)


def _parse(application: typer.Typer, arguments: list[str]) -> None:
    """Raise click's error unless subcommand, options and arguments are there; runs nothing."""
    group = _root(application)
    context = group.make_context("wallet", [*arguments], resilient_parsing=not arguments)
    rest = arguments
    while rest and hasattr(group, "resolve_command"):
        name, group, rest = group.resolve_command(context, rest)
        if "--help" in rest:
            return
        context = group.make_context(name, [*rest], parent=context)


@pytest.mark.parametrize(("page", "target"), list(_links()), ids=_named)
def test_every_link_within_the_project_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    found = (page.parent / path).resolve() if path else page
    assert found.exists()
    assert not anchor or anchor in _anchors(found)


@pytest.mark.parametrize(("page", "command"), sorted(set(_shown_commands())), ids=_named)
def test_every_command_that_is_shown_exists_with_its_options(page: Path, command: str) -> None:
    _parse(main.app, shlex.split(command))


@pytest.mark.parametrize(("page", "name"), sorted(set(_mentioned_commands())), ids=_named)
def test_every_command_that_is_mentioned_exists(page: Path, name: str) -> None:
    assert name in _root(main.app).commands


def _options() -> Iterator[tuple[str, str]]:
    """Every option of every command, with the command's first word."""

    def of(name: str, command: Any) -> Iterator[tuple[str, str]]:
        for option in command.params:
            yield from ((name, word) for word in option.opts if word.startswith("--"))
        for one in getattr(command, "commands", {}).values():
            yield from of(name, one)

    for name, command in _root(main.app).commands.items():
        yield from of(name, command)


@pytest.mark.parametrize(("name", "option"), sorted(set(_options())))
def test_every_option_is_in_its_commands_part_of_the_page(name: str, option: str) -> None:
    parts = re.split(r"^(?=\*\*`wallet |## )", COMMANDS.read_text("utf-8"), flags=re.MULTILINE)
    mine = [part for part in parts if re.match(rf"\*\*`wallet {name}\b", part)]
    assert any(re.search(rf"{option}(?![\w-])", part) for part in mine)


@pytest.mark.parametrize(
    "wrong", ["wallet local sideways", "wallet generate --amount 3", "wallet sink all twice", "wallet x"]
)
def test_a_command_that_does_not_exist_would_be_found(wrong: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|unexpected|got unexpected"):
        _parse(main.app, shlex.split(wrong)[1:])


@pytest.mark.parametrize(("page", "code"), list(_blocks("python")), ids=_named)
def test_every_python_example_compiles(page: Path, code: str) -> None:
    compile(code, str(page), "exec")


def _errors_of_ours() -> dict[str, int]:
    """Every error class in the rooms, with its exit code."""
    for room in ROOMS:
        for module in walk_packages([str(ROOT / room)], f"{room}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    found, left = dict[str, int](), [WalletError]
    for one in left:
        left += one.__subclasses__()
        if not one.__module__.startswith(("tests", "test_")):
            found[one.__name__] = one.exit_code
    return found


def test_the_tree_of_errors_and_the_table_of_exit_codes_are_the_programs() -> None:
    drawn = {name: int(code) for name, code in re.findall(r"(\w+) +(\d)\b", errors.__doc__ or "")}
    assert drawn == _errors_of_ours()
    table = COMMANDS.read_text("utf-8").partition("## Exit codes\n")[2].partition("\n## ")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert codes == {
        0,
        *drawn.values(),
        errors.BAD_LINES,
        errors.DIFFERENCES,
        errors.INTERRUPTED,
        errors.READER_GONE,
        errors.BUG,
    }


def test_sections_of_the_design_that_code_refers_to_exist() -> None:
    headings = set(re.findall(r"^## (\d+)\. ", (ROOT / "docs/design.md").read_text("utf-8"), re.MULTILINE))
    named = {
        number
        for path in _files()
        if path.suffix == ".py"
        for number in re.findall(r"DESIGN,? (?:section )?(\d+)", path.read_text("utf-8"))
    }
    assert named
    assert named <= headings


def _files() -> list[Path]:
    """What belongs to the project: what git knows or would add, or every file where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        hidden = {".venv", ".local", "__pycache__", "build", "dist", "target", "node_modules"}
        found = [
            path
            for path in ROOT.rglob("*")
            if not any(
                part in hidden or part.endswith(("_cache", ".egg-info"))
                for part in path.relative_to(ROOT).parts
            )
        ]
    return [path for path in found if path.is_file()]


def _private() -> re.Pattern[str]:
    """Paths of a machine that this was written on or is tested on, and addresses of package indexes."""
    here = [f"{re.escape(str(place))}\\b" for place in (ROOT, Path.home()) if len(place.parts) > 2]
    # In pieces, or this file would contain what it looks for.
    machine = ["/wor" + r"k/(?:main|shared)\b", r"\.\./sha" + "red", r"/ro" + r"ot/\w", r"/home/[a-z]+/\w"]
    index = [
        r"https?://\S+/sim" + "ple",
        "python" + "hosted",
        "--(?:extra-)?index" + "-url[ =]h",
        "index_" + "url ?=",
    ]
    return re.compile("|".join(here + machine + index))


def test_no_file_names_a_path_of_a_machine_or_the_address_of_an_index() -> None:
    private = _private()
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in _files()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1)
        if private.search(line)
    ]
    assert found == []
