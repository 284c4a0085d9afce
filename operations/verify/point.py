"""A verified point: everything an audit needs to continue later from where it was clean.

It is a folder with the certified wallets and ids (a folder for each partition), the open groups, and `point.json`: the
offsets of each partition in the input and the derived topics, and the digests of all rows so far. Whoever can write
to the folder can deceive a later audit: protect it like the audits' results.
"""

import json
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

from audit.digests import Digests
from audit.expected import COUNTED, ExpectedRows
from config.errors import ConfigurationError, Refused

FORMAT = 3
FILE = "point.json"


@dataclass
class Point:
    """The content of `point.json`; `starts` are offsets of the derived topics, by partition and topic."""

    prefix: str
    cluster: str
    topic_id: str
    saved_at: str
    key: str
    sources: dict[str, int]
    starts: dict[str, dict[str, int]]
    rows: dict[str, list[list[int]]] = field(default_factory=dict)
    format: int = FORMAT


def load(folder: Path, work: Path) -> Point:
    """Copy a verified point to the audit's working folder, and read it."""
    try:
        fields = json.loads((folder / FILE).read_text())
        point = Point(**fields)
    except OSError as error:
        raise ConfigurationError(f"--since {folder} is not a verified point: {error.strerror}") from None
    except (ValueError, TypeError):
        raise ConfigurationError(f"--since {folder} is not a verified point: {FILE} cannot be read") from None
    if point.format != FORMAT:
        raise Refused(
            f"--since {folder} has format {point.format}, this version reads {FORMAT}: verify without --since"
        )
    shutil.copytree(folder, work, dirs_exist_ok=True)
    return point


def refuse_another(point: Point, prefix: str, cluster: str, topic_id: str) -> None:
    """Raise Refused if a point belongs to something else."""
    wanted = {"prefix": prefix, "cluster": cluster, "topic_id": topic_id}
    wrong = [name for name, value in wanted.items() if getattr(point, name) != value]
    if wrong:
        raise Refused(
            f"the verified point belongs to another {', '.join(wrong)}: verify from the start, without --since"
        )


def restore_rows(point: Point, expected: ExpectedRows, partitions: Collection[int]) -> None:
    """Add the digests of all rows of these partitions up to the point."""
    for table in COUNTED:
        expected.rows[table].restore(
            (partition, number, count, total)
            for partition, number, count, total in point.rows[table]
            if partition in partitions
        )


def rows_of(digests: dict[str, Digests]) -> dict[str, list[list[int]]]:
    """Digests in the form that a point stores."""
    return {
        table: [[*at, *counted] for at, counted in one.counted().items()] for table, one in digests.items()
    }


def refuse_to_replace(folder: Path) -> None:
    """Raise ConfigurationError unless the folder is new, empty, or an older point."""
    if folder.exists() and not (folder / FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            f"--save {folder} holds something other than a verified point: choose another folder"
        )


def save(point: Point, work: Path, folder: Path) -> None:
    """Replace `folder` with the audit's working folder and its point."""
    (work / FILE).write_text(json.dumps(asdict(point)))
    new = folder.with_name(f"{folder.name}.new")
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(work, new)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
