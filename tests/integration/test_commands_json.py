"""Every command that has --json, run as a program runs it, on one real pipeline."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from config.settings import Settings
from local.stack import Stack
from operations.sending.lines import to_json
from tests import commands_page
from tests.conftest import IN_CONTAINERS
from tests.forked import completed
from tests.integration.pipelines import transaction
from tests.integration.rebuilds import live

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(IN_CONTAINERS, reason="about the local stack, among others"),
]

COUNT = 300
#: They take long enough where there is much to do; without a terminal they log how far they are.
SHOW_PROGRESS = {"generate", "verify", "replay", "export topics", "rebuild start"}


class Step(NamedTuple):
    """One command, with the arguments that make it short, and the exit code that is due."""

    command: str
    arguments: str = ""
    code: int = 0


def steps(stack: Stack, wallet_id: str, rejected: str) -> list[Step]:
    """In an order in which each finds what it needs; what adds to the input comes last."""
    return [
        Step("local up", f"--folder {stack.folder}"),
        Step("local status", f"--folder {stack.folder}"),
        Step("local env", f"--folder {stack.folder}"),
        Step("local down", "--folder nothing-here"),
        Step("init"),
        Step("status"),
        Step("balance", wallet_id),
        Step("statement", wallet_id),
        Step("inspect", f"{wallet_id} --entries 2"),
        Step("archive status"),
        Step("archive run"),
        Step("archive verify"),
        Step("replay", "--from-beginning"),
        Step("verify"),
        Step("rejections list"),
        Step("rejections show", rejected),
        Step("rejections resubmit", "--partition 0"),
        Step("export topics", "exported"),
        Step("export statement", f"{wallet_id} statement.csv"),
        Step("rebuild start"),
        Step("rebuild status"),
        Step("rebuild diff"),
        Step("rebuild switch"),
        Step("rebuild discard", "--execute"),
        Step("import", "--dry-run lines.jsonl", 6),
        Step("send", "lines.jsonl", 6),
        Step("generate", "--count 20"),
        Step("demo", "--stop"),
    ]


def test_every_command_prints_for_programs_what_the_page_says_and_nothing_else(
    stack: Stack, settings: Settings, environment: Callable[[Settings], dict[str, str]], tmp_path: Path
) -> None:
    one = transaction(1, "wallet-000000")
    (tmp_path / "lines.jsonl").write_text(f"{json.dumps(to_json(one))}\nnonsense\n")
    fields, print_lines, codes = (
        commands_page.printed(),
        commands_page.printing_lines(),
        commands_page.exit_codes(),
    )
    # Commands that look wait for servers only briefly, unless told otherwise.
    with live(settings.model_copy(update={"look_wait_s": 60.0}), tmp_path, COUNT) as pipeline:
        wallet = partial(completed, env=environment(pipeline), cwd=tmp_path, timeout_s=90)
        newest = json.loads(wallet("rejections", "list", "--json").stdout)["rejections"][0]
        todo = steps(stack, one.wallet_id, f"{newest['partition']} {newest['source_offset']}")
        taking = {name for name, takes_it in commands_page.taking_json().items() if takes_it}
        assert {step.command for step in todo} == taking
        for command, arguments, code in todo:
            done = wallet(*command.split(), *arguments.split(), "--json")
            said = f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == code, said
            assert code in codes
            lines = done.stdout.splitlines()
            assert lines if command in print_lines else len(lines) == 1, said
            for line in lines:
                printed = json.loads(line)
                assert isinstance(printed, dict), said
                assert printed.keys() <= {*fields[command]} or not fields[command], said
            if command in SHOW_PROGRESS:
                assert " done=" in done.stderr, said
        # An answer that is no prints no object.
        nobody = wallet("balance", "nobody", "--json")
        assert (nobody.returncode, nobody.stdout, nobody.stderr.count("\n")) == (1, "", 1)
