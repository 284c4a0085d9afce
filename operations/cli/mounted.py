"""Groups of commands within `wallet`, imported when one of their commands is run.

Typer's own way of mounting would import all of them, and their libraries, for every `--help`.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

#: The module of each group; its `app` has the commands.
GROUPS = {
    "archive": "operations.archive.commands",
    "export": "operations.export.commands",
    "local": "operations.setup.local",
    "rebuild": "operations.rebuild.commands",
    "rejections": "operations.rejections.commands",
}


class Mounted(TyperGroup):
    """`wallet`: lists its groups as main.py declares them and loads their modules on demand."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command that the first word names, and the rest of the line; a group alone shows its help."""
        name, command, rest = super().resolve_command(ctx, args)
        if name not in GROUPS:
            return name, command, rest
        group = typer.main.get_command(import_module(GROUPS[name]).app)
        return name, group, rest or ([] if ctx.resilient_parsing else ["--help"])
