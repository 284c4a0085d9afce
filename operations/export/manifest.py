"""What an export has written so far: `manifest.json` in its folder, rewritten atomically after every file.

It lets anyone check the folder: it has each file's SHA-256, number of records, sum (ledger: credits minus debits) and
a hash of the content that does not depend on Parquet. The next run continues where the manifest ends.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Message

from config.errors import ConfigurationError, Refused
from config.folders import written_whole
from topics.rejections import Headers, headers_of

NAME = "manifest.json"
FORMAT = 1
#: The length that stands for null.
NULL = (-1).to_bytes(4, signed=True)
READ_BYTES = 1 << 20
#: Stands in the content's hash for headers that no Python client can read; it must not change.
UNREADABLE: Headers = [("(a name that is not UTF-8)", None)]


@dataclass(frozen=True)
class File:
    """One file: records of one partition from `from_offset` up to `to_offset` (excluded), of `month` if set."""

    path: str
    topic: str
    partition: int
    from_offset: int
    to_offset: int
    records: int
    #: Credits minus debits in minor units, all currencies added; None for topics other than the ledger.
    amount: int | None
    #: SHA-256 over the records as `packed` writes them.
    content: str
    sha256: str
    month: str | None = None


@dataclass(frozen=True)
class ExportedMonth:
    """A sealed month as exported: the seal computed from its files, and whether it matches."""

    month: str
    entries: int
    amount: int
    hash: str
    seal: str
    as_sealed: bool
    #: The previous seal, None for the first month; "" in a manifest of an older release.
    previous: str | None = ""


@dataclass
class Manifest:
    """All files of a folder. `origin` names their source: cluster, topics and pipeline record."""

    origin: dict[str, Any]
    files: list[File] = field(default_factory=list)
    months: list[ExportedMonth] = field(default_factory=list)
    #: Accepted schema ids by partition, in addition to the pipeline's own, as the pipeline topic records them.
    accepted: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, origin: Mapping[str, Any]) -> Self:
        """The folder's manifest, or a new one if it has none.

        Raises Refused if the folder holds another pipeline's files, ConfigurationError if the file is not a manifest.
        """
        path = folder / NAME
        try:
            told = json.loads(path.read_text())
            found = cls(
                dict(told["origin"]),
                [File(**one) for one in told["files"]],
                [ExportedMonth(**one) for one in told["months"]],
                told.get("accepted", {}),
            )
            version = told["format"]
        except FileNotFoundError:
            return cls(dict(origin))
        except (ValueError, TypeError, KeyError):
            raise ConfigurationError(
                f"{path} is not an export's manifest: choose another folder, or an empty one"
            ) from None
        if version != FORMAT:
            raise Refused(
                f"{path} has format {version!r}, this version reads {FORMAT}: choose another folder"
            )
        for name, value in origin.items():
            if (there := found.origin.get(name, value)) != value:
                raise Refused(
                    f"{folder} holds an export with {name} {there}, but here it is {value}: choose another folder"
                )
        found.origin |= origin
        return found

    def next_offset(self, topic: str, partition: int, month: str | None) -> int | None:
        """Where the next file of this partition begins; None if it has no file yet."""
        ends = [
            one.to_offset
            for one in self.files
            if (one.topic, one.partition, one.month) == (topic, partition, month)
        ]
        return max(ends, default=None)

    def save(self, folder: Path) -> None:
        """Write it atomically."""
        told = {"format": FORMAT} | asdict(self)
        with written_whole(folder / NAME) as out:
            json.dump(told, out, indent=1)


def packed(messages: Iterable[Message]) -> bytes:
    """Records as bytes for the content's hash.

    Each record is: offset and timestamp (8 bytes each), key, value, the number of headers (4 bytes), then each header's
    name and value. Keys, values and names are preceded by their length in 4 bytes, -1 for null. All big-endian.
    """
    parts = []
    for message in messages:
        headers = headers_of(message)
        headers = UNREADABLE if headers is None else headers
        parts += [
            (message.offset() or 0).to_bytes(8),
            message.timestamp()[1].to_bytes(8, signed=True),
            _sized(message.key()),
            _sized(message.value()),
            len(headers).to_bytes(4),
        ]
        for name, value in headers:
            parts += [_sized(name), _sized(value)]
    return b"".join(parts)


def _sized(value: str | bytes | None) -> bytes:
    if value is None:
        return NULL
    content = value.encode() if isinstance(value, str) else value
    return len(content).to_bytes(4) + content


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    total = sha256()
    with path.open("rb") as read:
        while piece := read.read(READ_BYTES):
            total.update(piece)
    return total.hexdigest()
