"""What `wallet init` says of the pipeline record, without any server."""

import pytest

from config.pipeline import Pipeline
from config.settings import Settings
from operations.setup import init


def test_a_record_that_shows_late_is_told_as_written(
    plain_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Pipeline.of(plain_settings, 1)
    answers = iter([None, None, wanted])
    monkeypatch.setattr(init, "read_pipeline", lambda _: next(answers))
    monkeypatch.setattr(init, "_write_first", lambda *_: "")
    assert init.claim(plain_settings, wanted) == (wanted, True)
