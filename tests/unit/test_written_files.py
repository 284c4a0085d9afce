"""Files that are written whole: what stands at their place stays what it is."""

import os
from pathlib import Path

import pytest

from config.errors import ConfigurationError
from config.folders import written_whole
from operations.export.manifest import Manifest


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with written_whole(path) as out:
            out.write("ü\n")
        assert os.read(end, 9) == "ü\n".encode()
    finally:
        os.close(end)
    assert path.is_fifo()
    assert [*tmp_path.iterdir()] == [path]


def test_a_link_stays_a_link_to_what_is_written(tmp_path: Path) -> None:
    link, path = tmp_path / "link", tmp_path / "elsewhere" / "file"
    path.parent.mkdir()
    link.symlink_to(path)
    for text in ("new", "again"):
        with written_whole(link) as out:
            out.write(text)
        assert path.read_text() == text
    assert link.is_symlink()


def test_a_file_keeps_what_it_has_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def cut_short() -> None:
        with written_whole(path) as out:
            out.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert path.read_text() == "before"
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as told, written_whole(tmp_path):
        pass
    assert told.value.filename == str(tmp_path)


@pytest.mark.parametrize("origin", ['["a"]', '"a"', "1", "null"])
def test_a_manifest_of_something_else_is_refused(origin: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(f'{{"origin": {origin}, "files": [], "months": [], "format": 1}}')
    with pytest.raises(ConfigurationError, match="is not an export's manifest"):
        Manifest.of(tmp_path, {"prefix": "wallet"})
