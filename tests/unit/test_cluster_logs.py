"""Log lines: one an event, readable by programs, without secrets."""

import logging

import pytest

from config.logs import EventLog, OneLine, configure, masked


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.handler.setFormatter(OneLine())
    caplog.set_level(logging.INFO)
    return caplog


def test_an_event_is_one_line_with_its_fields(lines: pytest.LogCaptureFixture) -> None:
    EventLog("a.b").info("caught_up", partition=3, text='two "words"', empty="")
    [line] = lines.text.splitlines()
    assert line.endswith('Z info a.b caught_up partition=3 text="two \\"words\\"" empty=""')


def test_a_traceback_stays_on_its_line(lines: pytest.LogCaptureFixture) -> None:
    try:
        int("two\nlines")
    except ValueError:
        EventLog("a").exception("failed")
    [line] = lines.text.splitlines()
    assert "ValueError: invalid literal" in line
    assert "Traceback" in line


def test_other_loggers_have_the_same_form(lines: pytest.LogCaptureFixture) -> None:
    logging.getLogger("lib").warning("said %s\nthat", "this")
    assert lines.text.endswith("Z warning lib said this\\nthat\n")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hush@host/db",
        "host=h password=hush dbname=d",
        "{'sasl.password': 'hush'}",
        'password: "hush"',
        "http://me:hush@registry:8081",
    ],
)
def test_passwords_are_masked(text: str) -> None:
    assert "hush" not in masked(text)
    assert "***" in masked(text)


def test_an_address_without_a_password_stays_as_it_is() -> None:
    text = "kafka at 127.0.0.1:9092, postgresql://me@host:5432/db, http://host:8081/x@y"
    assert masked(text) == text


def test_debug_is_silent_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO")
    EventLog("quiet").debug("seen", value="secret record")
    configure("DEBUG")
    EventLog("quiet").debug("seen_now")
    told = capsys.readouterr().err
    assert "secret record" not in told
    assert "seen_now" in told
