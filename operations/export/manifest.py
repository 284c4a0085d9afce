"""What an export has written so far: `manifest.json` in its folder, replaced as a whole after every file.

Whoever has the folder can check it with it: each file's SHA-256, and of what is in it the number of records, the sum
(ledger: credits less debits) and a hash that does not depend on Parquet. A run goes on where the manifest ends.
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
#: Instead of a length, for what is null.
NULL = (-1).to_bytes(4, signed=True)
READ_BYTES = 1 << 20
#: What the content's hash has in place of headers that no Python client can read.
UNREADABLE: Headers = [("(a name that is not UTF-8)", None)]


@dataclass(frozen=True)
class File:
    """One file: records of one partition from `from_offset` to before `to_offset`; `month` where it is a month's."""

    path: str
    topic: str
    partition: int
    from_offset: int
    to_offset: int
    records: int
    #: Credits less debits in minor units, of all currencies; of other topics than the ledger None.
    amount: int | None
    #: SHA-256 over the records as `packed` writes them.
    content: str
    sha256: str
    month: str | None = None


@dataclass(frozen=True)
class ExportedMonth:
    """A sealed month as its files have it: what its seal covers, and whether the seal says the same."""

    month: str
    entries: int
    amount: int
    hash: str
    seal: str
    as_sealed: bool
    #: The seal before it, None for the first; "" in a manifest of an older release.
    previous: str | None = ""


@dataclass
class Manifest:
    """All files of a folder. `origin` says of what they are: cluster, topics and pipeline record."""

    origin: dict[str, Any]
    files: list[File] = field(default_factory=list)
    months: list[ExportedMonth] = field(default_factory=list)
    #: By partition the schema ids that count beside the pipeline's own, as the pipeline topic keeps them.
    accepted: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, origin: Mapping[str, Any]) -> Self:
        """The folder's manifest, a new one where it has none.

        Raises Refused for a folder with files of another pipeline, ConfigurationError for what is no manifest.
        """
        path = folder / NAME
        try:
            told = json.loads(path.read_text())
            found = cls(
                told["origin"],
                [File(**one) for one in told["files"]],
                [ExportedMonth(**one) for one in told["months"]],
                told.get("accepted", {}),
            )
            version = told["format"]
        except FileNotFoundError:
            return cls(dict(origin))
        except (ValueError, TypeError, KeyError):
            raise ConfigurationError(
                f"{path} is no manifest of an export: name another folder, or an empty one"
            ) from None
        if version != FORMAT:
            raise Refused(f"{path} has format {version!r}, this code knows {FORMAT}: name another folder")
        for name, value in origin.items():
            if (there := found.origin.get(name, value)) != value:
                raise Refused(
                    f"{folder} holds an export with {name} {there}, and here it is {value}: name another folder"
                )
        found.origin |= origin
        return found

    def next_offset(self, topic: str, partition: int, month: str | None) -> int | None:
        """Where the next file of this partition begins; None where there is none yet."""
        ends = [
            one.to_offset
            for one in self.files
            if (one.topic, one.partition, one.month) == (topic, partition, month)
        ]
        return max(ends, default=None)

    def save(self, folder: Path) -> None:
        """Write it: all of it or, where this ends in the middle, nothing."""
        told = {"format": FORMAT} | asdict(self)
        with written_whole(folder / NAME) as out:
            json.dump(told, out, indent=1)


def packed(messages: Iterable[Message]) -> bytes:
    """Records as the content's hash has them.

    Each is its offset and timestamp (8 bytes each), key and value, the number of headers (4 bytes) and their names and
    values; all big-endian, what has a length behind it in 4 bytes, -1 for null.
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
