"""docs/commands.md has the commands in the panels of the help, and what each prints for programs."""

import dataclasses
import re

from audit.report import Differences, Findings, Report
from config.settings import Settings
from local.stack import ServerStatus
from operations import main
from operations.archive import run as archive
from operations.demo.results import Results, Run, as_fields
from operations.export import run as export
from operations.looking import status
from operations.rebuild import diff as rebuild_diff
from operations.rebuild import discard as rebuild_discard
from operations.rebuild import status as rebuild_status
from operations.rebuild import switch as rebuild_switch
from operations.rejections import resubmit
from operations.sending import generating
from operations.setup import init
from sinks.postgres.questions import StatementLine, WalletBalance
from tests import commands_page


def fields_of(of: type) -> list[str]:
    return [one.name for one in dataclasses.fields(of)]


def test_the_panels_of_the_help_are_the_sections_of_the_page_with_their_commands() -> None:
    sections = re.split(r"^## (.+)\n", commands_page.TEXT, flags=re.MULTILINE)[1:]
    named = {
        title: list(dict.fromkeys(re.findall(r"^\*\*`wallet ([a-z]+)", text, re.MULTILINE)))
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }
    about_all = {"Exit codes", "JSON", "Times"}
    assert {title for title, names in named.items() if not names} == about_all
    panels = {title: list(commands) for title, commands in main.PANELS.items()}
    assert list(panels.items()) == [(title, names) for title, names in named.items() if names]


AUDIT = Report("prefix", {}, Differences(1), Findings(1))
#: They run until they are stopped, and log; `console --openapi` prints a JSON document as it is.
WITHOUT_JSON = {"worker", "sink", "console"}
#: They print an object on a line for each of what may be many: looks, entries, sinks.
PRINT_LINES = {"status", "statement", "replay"}
#: What the fields of a command's object are taken from.
PRINTED = {
    "init": fields_of(init.Report),
    "generate": fields_of(generating.Generated),
    "status": fields_of(status.Status),
    "balance": (*WalletBalance._fields, "at", "effective_at"),
    "statement": StatementLine._fields,
    "archive status": ("months", *fields_of(archive.Standing)),
    "rejections resubmit": fields_of(resubmit.Outcome),
    "export topics": fields_of(export.Report),
    "rebuild status": (*fields_of(rebuild_status.Progress), "complete"),
    "rebuild diff": (*fields_of(rebuild_diff.Diff), "equal"),
    "rebuild switch": fields_of(rebuild_switch.Outcome),
    "rebuild discard": fields_of(rebuild_discard.Removal),
    "demo": (*as_fields(Run(Settings(), 1), Results(AUDIT, {}, {}), 0.0, None), "stopped"),
    "local status": ("servers", *fields_of(ServerStatus)),
    "verify": AUDIT.to_json(),
}


def test_every_command_prints_json_as_the_page_says_or_has_a_reason_not_to() -> None:
    told, takes = commands_page.printed(), commands_page.taking_json()
    assert {name for name, takes_it in takes.items() if not takes_it} == WITHOUT_JSON
    assert set(told) == set(takes) - WITHOUT_JSON
    assert commands_page.printing_lines() == PRINT_LINES
    for name, fields in PRINTED.items():
        assert [one for one in told[name] if one != "null"] == list(fields), name
