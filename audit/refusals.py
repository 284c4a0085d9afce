"""Check the rejections of a stretch of the input: each is the input's record with six headers and a valid reason.

Whether a reason holds and no earlier one does follows from the record alone or from its wallet's certified balance at
that offset. Whether an id was posted before is judged by `audit.identity`, which gets an event for each.
"""

from collections.abc import Sequence

import numpy as np

from audit import fold
from audit.certify import Certified, Inputs, Tell, content_of, contents, id_and_content, would_be_recorded
from audit.columns import Cursor, Flags, Longs, Packed, transactions
from audit.contract import (
    BY_ITSELF,
    FIRST_MS,
    FRAME_BYTES,
    REJECTION_HEADERS,
    Balance,
    Contract,
    Headers,
    Reason,
    Transaction,
    frame,
)
from audit.fold import Posted
from audit.identity import CONFLICT, DUPLICATE, LATER, Events, events, halves
from audit.wallets import Wallets, balance_at
from topics.source import Source

OURS = len(REJECTION_HEADERS)
ANY_REASON = b"one of the nine reasons"
KINDS = {Reason.DUPLICATE: DUPLICATE, Reason.CONFLICT: CONFLICT}


def rejection(contract: Contract, partition: int, came: Source, reason: Reason, detail: bytes) -> Source:
    """What must be in `rejections` for a record of the input."""
    kept, at_ms = reason is not Reason.TOO_LARGE, max(came.timestamp_ms, FIRST_MS)
    values = (
        reason.encode(),
        detail,
        contract.input_topic.encode(),
        b"%d" % partition,
        b"%d" % came.offset,
        b"%d" % at_ms,
    )
    return Source(
        -1,
        at_ms,
        came.key if kept else None,
        came.value if kept else None,
        [*(_as_written(came.headers) if kept else ()), *zip(REJECTION_HEADERS, values, strict=True)],
    )


class Refusals:
    """Judges one partition's rejections, stretch by stretch; `wallets` are as of the stretch's begin."""

    def __init__(self, contract: Contract, partition: int, wallets: Wallets, tell: Tell) -> None:
        self._contract, self._partition, self._wallets, self._tell = contract, partition, wallets, tell
        self._frame = frame(contract.transaction_schema_id)

    def judge(
        self, inputs: Inputs, found: list[Source], sources: list[int], certified: Certified, newest_ms: int
    ) -> Events:
        """Compare the rejections of a stretch, by source, with the input; returns id events.

        `newest_ms` is the recorded_at of the newest entry before the stretch.
        """
        places, there = inputs.places(sources)
        later: list[tuple[Source, Source, Reason]] = []
        for one, place, is_there in zip(found, places.tolist(), there.tolist(), strict=True):
            if not is_there:
                continue
            came = inputs.records[place]
            reason = self._faithful(one, came)
            if reason in BY_ITSELF:
                what = fold.read(self._contract, self._partition, came)
                if what is not reason:
                    self._wrong(
                        one,
                        f"{what if isinstance(what, Reason) else 'no reason'} follows from the record alone",
                    )
            elif reason is not None:
                later.append((one, came, reason))
        return self._judge_later(later, certified, newest_ms)

    def _faithful(self, one: Source, came: Source) -> Reason | None:
        """The reason of a correct rejection; reports what is wrong with any other."""
        ours = one.headers[-OURS:]
        try:
            reason = Reason((ours[0][1] or b"").decode())
        except (IndexError, ValueError):
            self._tell("fidelity", "altered", one, _with_a_reason(one))
            return None
        detail = ours[1][1] or b"" if len(ours) == OURS else b""
        wanted = rejection(self._contract, self._partition, came, reason, detail)._replace(offset=one.offset)
        if (one.timestamp_ms, one.key, one.value, [*one.headers]) != (*wanted[1:4], wanted.headers):
            self._tell("fidelity", "altered", one, wanted, "")
            return None
        if not (detail.isascii() and detail.decode().isprintable()):
            self._tell("fidelity", "altered", one, None, "its detail is not printable ASCII")
        return reason

    def _wrong(self, one: Source, why: str) -> None:
        self._tell("refusals", "altered", one, None, f"it is rejected for a reason that does not hold: {why}")

    def _judge_later(
        self, later: list[tuple[Source, Source, Reason]], certified: Certified, newest_ms: int
    ) -> Events:
        """Those that are rejected for what their wallet has posted."""
        kept: list[tuple[Source, int, Reason, int, bytes]] = []
        usual, ids, digests = self._usual([came for _, came, _ in later])
        for at, (one, came, reason) in enumerate(later):
            if usual[at]:
                kept.append((came, self._wallets.number(came.key or b""), reason, ids[at], digests[at]))
                continue
            what = fold.read(self._contract, self._partition, came)
            if isinstance(what, Reason):
                self._wrong(one, f"{what} follows from the record alone")
                continue
            number = int(self._wallets.numbers([came.key or b""])[0])
            kept.append((came, number, reason, *id_and_content(what)))
        wallet = np.array([one[1] for one in kept], np.int64)
        behind, recorded = would_be_recorded([one[0] for one in kept], certified, newest_ms)
        rejected = {one.offset: record for record, one, _ in later}
        for at, (came, number, reason, _, _) in enumerate(kept):
            if reason not in KINDS:
                before = self._before(number, int(behind[at]), certified)
                self._by_state(rejected[came.offset], came, reason, before, int(recorded[at]))
        return events(
            wallet,
            np.array([KINDS.get(one[2], LATER) for one in kept], np.uint8),
            *halves([one[3] for one in kept]),
            np.array([one[0].offset for one in kept], np.int64),
            recorded,
            contents([one[4] for one in kept]),
        )

    def _usual(self, came: Sequence[Source]) -> tuple[list[bool], list[int], list[bytes]]:
        """Which records are plain transactions of wallets that are known here; their ids and contents."""
        values = [record.value or b"" for record in came]
        cursor = Cursor(Packed(values))
        columns = transactions(cursor, values)
        good: Flags = cursor.end() & (columns.wallet_bytes == [len(record.key or b"") for record in came])
        numbers: Longs = np.array([self._wallets.number(record.key or b"") for record in came], np.int64)
        good &= (numbers >= 0) & self._wallets.at_home[numbers]
        plain = [
            record.key is not None
            and value.startswith(self._frame)
            and value.startswith(record.key, place)
            and not record.headers
            and not fold.is_too_large(self._contract, record)
            for record, value, place in zip(came, values, columns.wallet_at.tolist(), strict=True)
        ]
        usual = (good & np.array(plain, np.bool_)).tolist()
        ids = [
            high << 64 | low
            for high, low in zip(columns.id_high.tolist(), columns.id_low.tolist(), strict=True)
        ]
        digests = [
            content_of(value[FRAME_BYTES:], in_order) if is_usual else b""
            for value, in_order, is_usual in zip(values, columns.in_order.tolist(), usual, strict=True)
        ]
        return usual, ids, digests

    def _before(self, number: int, behind: int, certified: Certified) -> list[Balance | None]:
        """What may be the balance of a wallet before the row `behind` of a stretch."""
        rows = np.flatnonzero(certified.wallet[:behind] == number)
        if not len(rows):
            return self._wallets.suspects.get(number) or [self._wallets.get(number)]
        name = self._wallets.names[number].decode()
        return [balance_at(certified, int(rows[-1]), name, self._partition)]

    def _by_state(
        self, one: Source, came: Source, reason: Reason, maybe: list[Balance | None], recorded_ms: int
    ) -> None:
        """Whether a reason holds for what may be the wallet's balance."""
        what = fold.read(self._contract, self._partition, came)
        if not isinstance(what, Transaction):
            return  # already reported
        outcomes = [
            fold.post(self._contract, balance, what, self._partition, came.offset, recorded_ms)
            for balance in maybe
        ]
        if reason not in outcomes:
            first = outcomes[0]
            self._wrong(one, "it had to be posted" if isinstance(first, Posted) else f"{first} holds")


def _with_a_reason(one: Source) -> Source:
    """The rejection as it may be: with any of the reasons that there are."""
    name = REJECTION_HEADERS[0]
    headers = [(other, ANY_REASON if other == name else value) for other, value in one.headers]
    return one._replace(headers=headers)


def _as_written(headers: Headers) -> Headers:
    """Headers as librdkafka writes them again: a name ends at U+0000."""
    return [(name.partition("\0")[0], value) for name, value in headers]
