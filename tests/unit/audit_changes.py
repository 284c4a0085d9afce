"""Single changes of a clean pipeline's topics, and of the rules in a worker's code: an audit must find every one."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from audit import avro
from audit.contract import NO_HASH, Balance, Reason, Transaction
from streams import wallet
from streams.posting import Fold
from tests.edits import Edit
from tests.unit.audits import TOPICS, Pipe
from topics.source import Source

FRAME = 5
Records = list[Source]


class Change(NamedTuple):
    """What is done to a pipeline's topics, and what of it must be told: check, topic and what."""

    name: str
    do: Callable[[Pipe], None]
    check: str
    topic: str
    what: str

    @property
    def most(self) -> int:
        """How many differences there may be: where a chain is made anew, all that follow from it are others."""
        return 10_000 if any(word in self.name for word in ("anew", "hashes", "though")) else 2


def entry_of(record: Source) -> avro.Entry:
    """What an entry says."""
    return avro.read_entry((record.value or b"")[FRAME:])


def written(record: Source, entry: avro.Entry) -> Source:
    """The record with this entry in it, its hash as it is told."""
    body = avro.write_transaction(entry.transaction) + b"".join(map(avro.long, entry[1:6]))
    return record._replace(value=(record.value or b"")[:FRAME] + body + entry.hash)


def linked(record: Source, entry: avro.Entry, before: bytes) -> Source:
    """The same with the hash that follows from the one before."""
    body = avro.write_transaction(entry.transaction) + b"".join(map(avro.long, entry[1:6]))
    return written(record, entry._replace(hash=hashlib.sha256(before + body).digest()))


def busiest(pipe: Pipe) -> list[int]:
    """The places in the ledger of the wallet with most entries."""
    by_wallet: dict[bytes | None, list[int]] = {}
    for at, record in enumerate(pipe.ledger):
        by_wallet.setdefault(record.key, []).append(at)
    return max(by_wallet.values(), key=len)


def an_entry(**changes: Any) -> Callable[[Pipe], None]:
    """Change fields of an entry in the middle of its wallet, its hash with them or not."""
    relink = changes.pop("relink", False)

    def do(pipe: Pipe) -> None:
        places = busiest(pipe)
        before, at = places[len(places) // 2 - 1 : len(places) // 2 + 1]
        entry = entry_of(pipe.ledger[at])
        of = {name: change for name, change in changes.items() if name in Transaction._fields}
        new = entry._replace(
            transaction=entry.transaction._replace(
                **{n: c(getattr(entry.transaction, n)) for n, c in of.items()}
            ),
            **{n: c(getattr(entry, n)) for n, c in changes.items() if n not in of},
        )
        record = pipe.ledger[at]
        pipe.ledger[at] = (
            linked(record, new, entry_of(pipe.ledger[before]).hash) if relink else written(record, new)
        )

    return do


def rechained(pipe: Pipe, places: Sequence[int]) -> None:
    """Give the entries of one wallet sequences, balances and hashes that follow from each other."""
    sequence, balance, link = 0, 0, NO_HASH
    for at in places:
        entry = entry_of(pipe.ledger[at])
        # What leaves 64 bits comes in again on the other side, as it would in most languages.
        sequence, balance = sequence + 1, (balance + entry.transaction.signed + 2**63) % 2**64 - 2**63
        pipe.ledger[at] = linked(pipe.ledger[at], entry._replace(sequence=sequence, balance=balance), link)
        link = entry_of(pipe.ledger[at]).hash


def an_entry_is_gone(pipe: Pipe) -> None:
    """One entry in the middle of a wallet."""
    places = busiest(pipe)
    del pipe.ledger[places[len(places) // 2]]


def an_entry_is_gone_and_the_chain_made_anew(pipe: Pipe) -> None:
    """One entry, and all that follow it as if it had never been."""
    places = busiest(pipe)
    gone = places.pop(len(places) // 2)
    rechained(pipe, places)
    del pipe.ledger[gone]


def an_entry_is_put_in(pipe: Pipe) -> None:
    """An entry of no record of the input, with all behind it chained to it."""
    places = busiest(pipe)
    at = places[len(places) // 2]
    entry = entry_of(pipe.ledger[at])
    forged = entry._replace(
        transaction=entry.transaction._replace(transaction_id="0b0e7d3c-2f65-4c6f-9d5e-0000000000aa"),
        source_offset=entry.source_offset + 1,
    )
    pipe.ledger.insert(at + 1, written(pipe.ledger[at], forged))
    rechained(
        pipe,
        [place + (place > at) for place in places[: len(places) // 2 + 1]]
        + [at + 1]
        + [p + 1 for p in places[len(places) // 2 + 1 :]],
    )


def swapped(topic: str) -> Callable[[Pipe], None]:
    """Two neighbours change places."""

    def do(pipe: Pipe) -> None:
        some = pipe.topics[getattr(TOPICS, topic)]
        at = len(some) // 2
        some[at], some[at + 1] = some[at + 1], some[at]

    return do


def in_topic(
    topic: str, change: Callable[[Source], Source | None], at: float = 0.5
) -> Callable[[Pipe], None]:
    """Change one record of a topic; None takes it away."""

    def do(pipe: Pipe) -> None:
        some = pipe.topics[getattr(TOPICS, topic)]
        place = int(at * (len(some) - 1))
        new = change(some[place])
        some[place : place + 1] = [] if new is None else [new]

    return do


def replaced(topic: str, **fields: Any) -> Callable[[Pipe], None]:
    """Give a record of a topic other fields."""
    return in_topic(topic, lambda one: one._replace(**fields))


def again(topic: str, behind: int = 1) -> Callable[[Pipe], None]:
    """A record comes once more."""

    def do(pipe: Pipe) -> None:
        some = pipe.topics[getattr(TOPICS, topic)]
        some.insert(len(some) // 2 + behind, some[len(some) // 2])

    return do


def rejected(reason: Reason) -> Callable[[Pipe], int]:
    """The place of a rejection for this reason, in the middle of them."""

    def at(pipe: Pipe) -> int:
        some = pipe.topics[TOPICS.rejections]
        wanted = [place for place, one in enumerate(some) if reason_of(one) == reason]
        return wanted[len(wanted) // 2]

    return at


def reason_of(record: Source) -> str:
    """The reason that a rejection gives."""
    return (record.headers[-6][1] or b"").decode()


def with_header(name: str, content: bytes | None, reason: Reason = Reason.INVALID) -> Callable[[Pipe], None]:
    """Change one of our headers of a rejection."""

    def do(pipe: Pipe) -> None:
        some, at = pipe.topics[TOPICS.rejections], rejected(reason)(pipe)
        headers = [(one, content if one == name else value) for one, value in some[at].headers]
        some[at] = some[at]._replace(headers=headers)

    return do


def for_another_reason(is_now: Reason, was: Reason) -> Callable[[Pipe], None]:
    """A rejection says another reason than the one that holds."""
    return with_header("rejection.reason", is_now.encode(), was)


def accepted_though(reason: Reason) -> Callable[[Pipe], None]:
    """A record that had to be rejected has an entry instead, and its wallet's chain follows from it."""

    def do(pipe: Pipe) -> None:
        some, at = pipe.topics[TOPICS.rejections], rejected(reason)(pipe)
        refused = some.pop(at)
        source = int(dict(refused.headers)["rejection.offset"] or b"")
        (came,) = (one for one in pipe.topics[TOPICS.transactions] if one.offset == source)
        behind = next(place for place, one in enumerate(pipe.ledger) if entry_of(one).source_offset > source)
        newest_ms = entry_of(pipe.ledger[behind - 1]).recorded_ms
        model = (
            next(one for one in pipe.ledger if one.key == came.key)
            if came.key in {one.key for one in pipe.ledger}
            else pipe.ledger[0]
        )
        try:
            transaction = avro.read_transaction((came.value or b"")[FRAME:])
        except avro.Undecodable:
            transaction = entry_of(model).transaction
        recorded_ms = max(newest_ms, came.timestamp_ms)
        forged = avro.Entry(transaction, 0, 0, recorded_ms, entry_of(model).source_partition, source, NO_HASH)
        key = transaction.wallet_id.encode()
        pipe.ledger.insert(behind, written(model._replace(key=key, timestamp_ms=recorded_ms), forged))
        rechained(pipe, [place for place, one in enumerate(pipe.ledger) if one.key == key])

    return do


def rejected_though_good(reason: Reason) -> Callable[[Pipe], None]:
    """A record that had to be accepted is rejected, and its wallet's chain goes on without it."""

    def do(pipe: Pipe) -> None:
        places = busiest(pipe)
        gone = places.pop(len(places) // 2)
        entry = entry_of(pipe.ledger[gone])
        (came,) = (one for one in pipe.topics[TOPICS.transactions] if one.offset == entry.source_offset)
        some = pipe.topics[TOPICS.rejections]
        behind = next(
            place
            for place, one in enumerate(some)
            if int(dict(one.headers)["rejection.offset"] or b"") > came.offset
        )
        ours = dict(some[behind].headers[-6:]) | {
            "rejection.reason": reason.encode(),
            "rejection.offset": b"%d" % came.offset,
            "rejection.at": b"%d" % came.timestamp_ms,
        }
        kept = reason is not Reason.TOO_LARGE
        some.insert(
            behind,
            Source(
                0,
                came.timestamp_ms,
                came.key if kept else None,
                came.value if kept else None,
                [*(came.headers if kept else ()), *ours.items()],
            ),
        )
        rechained(pipe, places)
        del pipe.ledger[gone]

    return do


def snapshot(**changes: Any) -> Callable[[Pipe], None]:
    """Change fields of a snapshot."""

    def change(record: Source) -> Source:
        one = avro.read_snapshot((record.value or b"")[FRAME:])
        new = one._replace(**{name: how(getattr(one, name)) for name, how in changes.items()})
        body = avro.write_balance(Balance(*new[:8])) + avro.long(new.reason)
        return record._replace(value=(record.value or b"")[:FRAME] + body)

    return in_topic("snapshots", change)


def balance(**changes: Any) -> Callable[[Pipe], None]:
    """Change fields of a balance."""

    def change(record: Source) -> Source:
        one = avro.read_balance((record.value or b"")[FRAME:])
        new = one._replace(**{name: how(getattr(one, name)) for name, how in changes.items()})
        return record._replace(value=(record.value or b"")[:FRAME] + avro.write_balance(new))

    return in_topic("balances", change)


def the_newest_balance_is_gone(pipe: Pipe) -> None:
    """The newest balance of a wallet, and with it all others."""
    some = pipe.topics[TOPICS.balances]
    key = some[-1].key
    some[:] = [one for one in some if one.key != key]


def a_currency_is_changed_with_all_hashes(pipe: Pipe) -> None:
    """A wallet's currency, in all of its entries."""
    places = busiest(pipe)
    for at in places:
        entry = entry_of(pipe.ledger[at])
        pipe.ledger[at] = written(
            pipe.ledger[at], entry._replace(transaction=entry.transaction._replace(currency="XXX"))
        )
    rechained(pipe, places)


def bit(value: bytes | None, at: int) -> bytes:
    """The value with the lowest bit of one byte changed."""
    changed = bytearray(value or b"")
    changed[at] ^= 1
    return bytes(changed)


def plus(number: int) -> Callable[[int], int]:
    """Adds a number."""
    return lambda before: before + number


_LEDGER, _REJECTIONS, _SNAPSHOTS, _BALANCES = "ledger", "rejections", "snapshots", "balances"


def _by_identity(*, identity: bool) -> list[Reason]:
    """The reasons that an audit of the ids tells, or the others."""
    return [one for one in Reason if (one in {Reason.DUPLICATE, Reason.CONFLICT}) == identity]


def _accepted(*, identity: bool) -> dict[str, Callable[[Pipe], None]]:
    return {f"accepted, though {one}": accepted_though(one) for one in _by_identity(identity=identity)}


def _rejected(*, identity: bool) -> dict[str, Callable[[Pipe], None]]:
    return {
        f"rejected as {one}, though good": rejected_though_good(one)
        for one in _by_identity(identity=identity)
    }


#: What is done to the topics, under what of it must be told.
_DONE: dict[tuple[str, str, str], dict[str, Callable[[Pipe], None]]] = {
    ("fidelity", _LEDGER, "altered"): {
        "an amount": an_entry(amount=plus(1)),
        "an amount, its hash with it": an_entry(amount=plus(1), relink=True),
        "a credit becomes a debit": an_entry(type=lambda one: 1 - one),
        "an occurred_at": an_entry(occurred_us=plus(1)),
        "a group": an_entry(group_id=lambda _: "other"),
        "metadata": an_entry(metadata=lambda _: (("k", "v"),)),
        "a transaction's id": an_entry(
            transaction_id=lambda one: one[:-1] + ("1" if one[-1] == "0" else "0")
        ),
        "an entry's key": replaced(_LEDGER, key=b"x"),
        "an entry's time": in_topic(_LEDGER, lambda one: one._replace(timestamp_ms=one.timestamp_ms + 1)),
        "an entry's headers": replaced(_LEDGER, headers=[("a", b"b")]),
        "an entry's schema id": in_topic(_LEDGER, lambda one: one._replace(value=bit(one.value, 4))),
        "a currency is changed with all hashes": a_currency_is_changed_with_all_hashes,
    },
    ("arithmetic", _LEDGER, "altered"): {
        "a balance": an_entry(balance=plus(1)),
        "a balance, its hash with it": an_entry(balance=plus(1), relink=True),
        "a sequence": an_entry(sequence=plus(1)),
        "a recorded_at": an_entry(recorded_ms=plus(1)),
        "a source partition": an_entry(source_partition=plus(1)),
    },
    ("chain", _LEDGER, "altered"): {
        "a hash": in_topic(_LEDGER, lambda one: one._replace(value=bit(one.value, -1))),
    },
    ("conservation", _LEDGER, "missing"): {
        "a source offset": an_entry(source_offset=plus(1)),
        "an entry is gone": an_entry_is_gone,
        "an entry is gone, the chain made anew": an_entry_is_gone_and_the_chain_made_anew,
        "the last entry is gone": in_topic(_LEDGER, lambda _: None, 1.0),
    },
    ("conservation", _LEDGER, "extra"): {
        "bytes that are no Avro": replaced(_LEDGER, value=b"\0\0\0\0\2nothing"),
        "an entry without a value": replaced(_LEDGER, value=None),
        "an entry is put in, the chain made anew": an_entry_is_put_in,
        "an entry comes twice": again(_LEDGER),
        "an entry comes again, much later": again(_LEDGER, 100),
    },
    ("conservation", _LEDGER, "out of order"): {"two entries are swapped": swapped(_LEDGER)},
    ("refusals", _LEDGER, "extra"): _accepted(identity=False),
    ("identity", _LEDGER, "extra"): _accepted(identity=True),
    ("refusals", _REJECTIONS, "altered"): {
        **_rejected(identity=False),
        "a CURRENCY_MISMATCH is called INSUFFICIENT_FUNDS": for_another_reason(
            Reason.INSUFFICIENT_FUNDS, Reason.CURRENCY_MISMATCH
        ),
        "an INVALID is called UNDECODABLE": for_another_reason(Reason.UNDECODABLE, Reason.INVALID),
    },
    ("identity", _REJECTIONS, "altered"): {
        **_rejected(identity=True),
        "a DUPLICATE is called CONFLICT": for_another_reason(Reason.CONFLICT, Reason.DUPLICATE),
        "a CONFLICT is called DUPLICATE": for_another_reason(Reason.DUPLICATE, Reason.CONFLICT),
        "a DUPLICATE is called OVERFLOW": for_another_reason(Reason.OVERFLOW, Reason.DUPLICATE),
    },
    ("fidelity", _REJECTIONS, "altered"): {
        "a reason that there is not": with_header("rejection.reason", b"BECAUSE"),
        "a rejection's topic": with_header("rejection.topic", b"other"),
        "a rejection's partition": with_header("rejection.partition", b"7"),
        "a rejection's time": with_header("rejection.at", b"7"),
        "a detail that is no text": with_header("rejection.detail", b"\xff"),
        "a rejection's value": in_topic(
            _REJECTIONS, lambda one: one._replace(value=(one.value or b"") + b"!")
        ),
    },
    ("conservation", _REJECTIONS, "extra"): {
        "a rejection without headers": replaced(_REJECTIONS, headers=[]),
        "a rejection comes twice": again(_REJECTIONS),
    },
    ("conservation", _REJECTIONS, "missing"): {"a rejection is gone": in_topic(_REJECTIONS, lambda _: None)},
    ("conservation", _REJECTIONS, "out of order"): {"two rejections are swapped": swapped(_REJECTIONS)},
    ("derived", _SNAPSHOTS, "altered"): {
        "a snapshot's balance": snapshot(balance=plus(1)),
        "a snapshot's hash": snapshot(hash=lambda one: bit(one, 0)),
    },
    ("derived", _SNAPSHOTS, "missing"): {
        "a snapshot's reason": snapshot(reason=lambda one: 1 - one),
        "a snapshot is gone": in_topic(_SNAPSHOTS, lambda _: None),
    },
    ("derived", _SNAPSHOTS, "extra"): {"a snapshot too many": again(_SNAPSHOTS)},
    ("derived", _SNAPSHOTS, "out of order"): {"two snapshots are swapped": swapped(_SNAPSHOTS)},
    ("derived", _BALANCES, "altered"): {
        "a balance's amount": balance(balance=plus(1)),
        "a balance's sequence": balance(sequence=plus(1)),
    },
    ("derived", _BALANCES, "extra"): {
        "a balance of no entry": balance(source_offset=plus(1)),
        "a balance that is none": replaced(_BALANCES, value=b""),
    },
    ("derived", _BALANCES, "out of order"): {"a balance comes again": again(_BALANCES, 50)},
    ("derived", _BALANCES, "missing"): {"the newest balance is gone": the_newest_balance_is_gone},
}
CHANGES = [Change(name, do, *told) for told, done in _DONE.items() for name, do in done.items()]


class Rule(NamedTuple):
    """A rule of the worker's code that is another one, and the check that must tell."""

    name: str
    edit: Edit
    check: str


#: What is changed in the worker's code, under the check that must tell.
_CHANGED: dict[str, dict[str, Edit]] = {
    "identity": {
        "DUPLICATE and CONFLICT are exchanged": Edit(
            wallet.apply, "known.content == order.content", "known.content != order.content"
        ),
        "ids are not looked at": Edit(wallet.apply, "if known is not None and", "if None and"),
        "ids are forgotten a moment too early": Edit(
            wallet._forgotten, "> policy.id_window_ms", "> policy.id_window_ms // 2"
        ),
        "ids are not remembered": Edit(
            Fold._decide, "out.new_ids[posted] = _new(Known, (order[6], recorded_ms))", "pass"
        ),
    },
    "refusals": {
        "currencies are not looked at": Edit(
            wallet.apply, "if balance.currency != order.currency:", "if None:"
        ),
        "an overflow is seen too early": Edit(
            wallet.apply, "<= after <= LARGEST:", "<= after <= LARGEST // 2**40:"
        ),
        "an overflow is called INSUFFICIENT_FUNDS": Edit(
            wallet.apply, "Reason.OVERFLOW", "Reason.INSUFFICIENT_FUNDS"
        ),
        "funds are not looked at": Edit(
            wallet.apply, "not policy.overdraft_allowed", "policy.overdraft_allowed"
        ),
        "a debit may not empty a wallet": Edit(wallet.apply, "after < 0 and", "after < 10**9 and"),
        "a small debt is allowed": Edit(wallet.apply, "after < 0 and", "after < -(10**9) and"),
        "keys are not looked at": Edit(Fold._read, "record.key != order.wallet", "None"),
        "partitions are not looked at": Edit(Fold._decide, "!= self.partition", "is None"),
        "sizes are not looked at": Edit(Fold._read, "if sizes.exceed(self.max_record_bytes):", "if None:"),
    },
    "arithmetic": {
        "credits are debits": Edit(
            wallet.apply, "if is_credit else before -", "if not is_credit else before -"
        ),
        "sequences have holes": Edit(wallet.apply, "sequence + 1, after", "sequence + 2, after"),
        "times go back": Edit(Fold._decide, "max(out.recorded_ms, record[1], EARLIEST_MS)", "record[1]"),
        "balances are those before": Edit(
            Fold._decide, "before, record[0], out)", "before, record[0], out)._replace(balance=7)"
        ),
    },
    "chain": {
        "every entry begins a chain": Edit(
            Fold._enter, "chain(before[7], entry)", "chain(FIRST_PREVIOUS_HASH, entry)"
        ),
    },
    "fidelity": {
        "the bytes of what is too large are kept": Edit(
            Fold._rejection, "if rejected.reason is Reason.TOO_LARGE:", "if None:"
        ),
        "a rejection's headers are left out": Edit(Fold._rejection, "[*record.headers, *why]", "[*why]"),
    },
    "conservation": {
        "a rejection has the next one's offset": Edit(
            Fold._rejection, 'b"%d" % record.offset', 'b"%d" % (record.offset + 2)'
        ),
    },
    "derived": {
        "INTERVAL is an entry late": Edit(
            wallet.snapshots,
            "if after.sequence % policy.snapshot_every == 0:",
            "if after.sequence % policy.snapshot_every == 1:",
        ),
        "PERIOD comes beside an INTERVAL": Edit(
            wallet.snapshots, "and before.sequence % policy.snapshot_every", "and True"
        ),
        "PERIOD comes with every entry": Edit(
            wallet.snapshots, "after.recorded_ms // DAY_MS > before", "after.recorded_ms // DAY_MS >= before"
        ),
    },
}
RULES = [Rule(name, edit, check) for check, edits in _CHANGED.items() for name, edit in edits.items()]
