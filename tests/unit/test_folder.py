"""Numbered folders: by lock, the same one again, another one for each living process."""

import os
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from streams.folder import numbered_folder


def test_the_first_worker_takes_folder_0_and_makes_what_is_missing(tmp_path: Path) -> None:
    with numbered_folder(tmp_path / "not" / "there") as folder:
        assert folder == tmp_path / "not" / "there" / "0"
        assert folder.is_dir()


def test_two_at_once_have_different_folders(tmp_path: Path) -> None:
    with numbered_folder(tmp_path) as first, numbered_folder(tmp_path) as second:
        assert (first.name, second.name) == ("0", "1")


def test_a_worker_has_the_same_folder_again_after_a_restart(tmp_path: Path) -> None:
    with numbered_folder(tmp_path) as first, numbered_folder(tmp_path):
        (first / "mark").touch()
    with numbered_folder(tmp_path) as again:
        assert (again / "mark").exists()


def test_a_hole_is_filled_first(tmp_path: Path) -> None:
    with numbered_folder(tmp_path):
        with numbered_folder(tmp_path), numbered_folder(tmp_path):
            pass
        with numbered_folder(tmp_path) as folder:
            assert folder.name == "1"


def test_the_lock_ends_when_an_error_leaves_the_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), numbered_folder(tmp_path):
        raise ZeroDivisionError
    with numbered_folder(tmp_path) as folder:
        assert folder.name == "0"


def test_a_state_directory_that_is_a_file_is_said_to_be_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match=f"WALLET_STATE_DIR={tmp_path}/file/state cannot be used"),
        numbered_folder(tmp_path / "file" / "state"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_directory_without_rights_is_said_to_be_wrong(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with (
        pytest.raises(ConfigurationError, match="Permission denied"),
        numbered_folder(tmp_path / "closed" / "state"),
    ):
        pass
