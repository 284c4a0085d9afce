"""Which schema ids count in a partition: the log's word before the registry's."""

import pytest

from config.errors import Refused
from schemas.accepted import Accepted, AcceptedIds
from schemas.registry import usable
from schemas.versions import schema_text
from schemas.writers import WriterSchema

TEXT = schema_text("transaction", 1)
ONE = Accepted(104, 3, 7, TEXT)


def test_an_id_counts_from_its_first_offset_on_and_the_registry_is_not_asked() -> None:
    def ask(_: int) -> WriterSchema | None:
        raise AssertionError("asked")

    ids = AcceptedIds(3, [ONE], ask)
    assert [ids(104, offset) is not None for offset in (0, 6, 7, 10**9)] == [False, False, True, True]
    assert ids.unwritten == []


def test_what_the_registry_accepts_is_to_be_written_once() -> None:
    ids = AcceptedIds(3, ask=lambda schema_id: WriterSchema(TEXT) if schema_id == 104 else None)
    assert [ids(schema_id, offset) is not None for schema_id, offset in ((9, 6), (104, 7), (104, 8))] == [
        False,
        True,
        True,
    ]
    assert ids.unwritten == [ONE]


def test_below_what_is_complete_only_the_log_counts() -> None:
    ids = AcceptedIds(3, ask=lambda _: WriterSchema(TEXT), asked_from=7)
    assert ids(104, 6) is None
    assert ids(104, 7)
    assert ids.unwritten == [ONE]


def test_a_record_is_read_as_it_was_written() -> None:
    for one in (ONE, Accepted(1, 0, 0, TEXT, complete_to=12)):
        assert Accepted.from_record(one.key, one.to_json()) == one
    assert ONE.key == b"schema:104:3"


def test_a_text_that_is_no_utf8_is_kept_as_it_is() -> None:
    """Half of a surrogate pair, in a comment say: a registry has it, and the worker must be able to write it down."""
    text = TEXT.replace('"doc": "', '"doc": "\ud800', 1)
    assert text != TEXT
    one = Accepted(104, 3, 7, usable(text).text)
    assert Accepted.from_record(one.key, one.to_json()) == one


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"schema:105:3", ONE.to_json()),
        (ONE.key, b""),
        (ONE.key, b"[]"),
        (ONE.key, ONE.to_json().replace(b'"from_offset": 7', b'"from_offset": -7')),
        (ONE.key, ONE.to_json().replace(b'"from_offset": 7', b'"from_offset": 7.5')),
        (ONE.key, Accepted(104, 3, 7, '"string"').to_json()),
        (b"schema:\xff", ONE.to_json()),
    ],
)
def test_a_record_that_is_none_of_ours_is_refused(key: bytes, value: bytes) -> None:
    with pytest.raises(Refused, match="of the pipeline topic cannot be read"):
        Accepted.from_record(key, value)
