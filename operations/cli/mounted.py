"""Groups of commands within `wallet`, whose modules are imported when one of their commands is asked for.

Mounted as typer does it, all of them and the libraries that they need would be imported for every `--help`.
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
    """`wallet`, which lists its groups by what stands in main.py, and hands over to the modules."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command of a line's first word, and what is left for it; a group alone shows its help."""
        name, command, rest = super().resolve_command(ctx, args)
        if name not in GROUPS:
            return name, command, rest
        group = typer.main.get_command(import_module(GROUPS[name]).app)
        return name, group, rest or ([] if ctx.resilient_parsing else ["--help"])
