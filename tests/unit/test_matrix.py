"""What `make matrix` says where there is nothing to play."""

from pathlib import Path

import pytest

from tests import matrix


def test_a_matrix_that_could_play_no_row_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WALLET_LOCAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no Maven
    monkeypatch.setattr(matrix, "FOLDER", tmp_path / "matrix")
    assert matrix.main() == 1
    told = capsys.readouterr()
    assert told.out.count("skipped: Kafka needs Maven: install it") >= len([*matrix.rows()])
    assert told.err == "no row could be played here: the table says what is lacking\n"
