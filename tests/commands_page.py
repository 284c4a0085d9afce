"""docs/commands.md as a test reads it: what each command prints for programs, and the exit codes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from operations import main

TEXT = (Path(__file__).parents[1] / "docs" / "commands.md").read_text("utf-8")


def section(title: str) -> str:
    """The text of one section."""
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def exit_codes() -> set[int]:
    """The documented ones."""
    return {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)}


def printed() -> dict[str, list[str]]:
    """The fields of each command's object, and what else its row has in code."""
    return {
        name: re.findall(r"`(\w+)`", fields)
        for names, fields in re.findall(r"^\| (`.+?`) \| (.+) \|$", section("JSON"), re.MULTILINE)
        for name in re.findall(r"`(.+?)`", names)
    }


def printing_lines() -> set[str]:
    """The commands that print an object on a line for each of what may be many."""
    return {*re.findall(r"^\| `(.+?)` \| .*\ba line\b", section("JSON"), re.MULTILINE)}


def taking_json() -> dict[str, bool]:
    """Every command of `wallet` that is no group, and whether it has --json."""
    return {
        name: any("--json" in option.opts for option in command.params)
        for name, command in _leaves(get_command(main.app))
    }


def _leaves(group: Any, *words: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, *words, name)
        else:
            yield " ".join((*words, name)), command
