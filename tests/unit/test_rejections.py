"""What upstream may have written into a rejection's headers, and what is made of it."""

from datetime import UTC, datetime

import pytest

from operations.rejections.listing import ATTEMPT, Rejection

AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "attempt"),
    [
        ([], 0),
        ([b"2"], 2),
        ([b"2", b"3"], 3),
        ([None], 0),
        ([b"-1"], 0),
        ([b"two"], 0),
        ([b"\xff"], 0),
        ([b"9" * 10_000], 0),
    ],
)
def test_the_attempts_of_a_rejection_are_read_whatever_stands_there(
    values: list[bytes | None], attempt: int
) -> None:
    headers = [(ATTEMPT, value) for value in values]
    rejection = Rejection(0, "INVALID", "", "t", 0, 0, AT, None, None, headers)
    assert rejection.attempt == attempt
