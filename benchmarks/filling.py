"""The input: valid transactions, spread evenly over wallets, produced as an upstream system would."""

import random
from collections.abc import Iterable, Iterator

from config.settings import Settings
from operations.cli.output import progress
from operations.sending.delivery import deliver
from operations.sending.generator import FIRST_US, ProducerRecord
from schemas.codec import encode_transaction, frame
from schemas.partitioner import partition_of
from schemas.records import CREDIT, DEBIT, Transaction
from schemas.versions import FIXED_IDS

SEED = 1


def wallet_name(number: int) -> str:
    """The wallet that `transactions` opens as its record of this number."""
    return f"wallet-{number:07d}"


def transactions(count: int, wallets: int, partitions: int, hot: float = 0.0) -> Iterator[ProducerRecord]:
    """`count` records: each wallet is opened once, in order; from then on they come by chance.

    The first wallet gets the share `hot` of these, and the rest is spread evenly. Half are credits,
    none is a duplicate. The same arguments give the same records.
    """
    dice = random.Random(SEED)
    header = frame(FIXED_IDS.transaction)
    keys: list[tuple[str, bytes, int]] = []
    for number in range(count):
        if number < wallets:
            wallet = wallet_name(number)
            key = wallet.encode()
            home = partition_of(key, partitions)
            keys.append((wallet, key, home))
        else:
            is_hot = hot and dice.random() < hot
            wallet, key, home = keys[0 if is_hot else int(dice.random() * wallets)]
        kind = CREDIT if dice.random() < 0.5 else DEBIT
        digits = f"{dice.getrandbits(128):032x}"
        one = Transaction(
            f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}",
            wallet,
            kind,
            1 + int(dice.random() * 50_000),
            "EUR",
            FIRST_US + number * 1_000,
        )
        yield ProducerRecord(key, header + encode_transaction(one), [], home, None)


def with_duplicates(records: Iterable[ProducerRecord], one_in: int) -> Iterator[ProducerRecord]:
    """The same records; one in so many is sent a second time, right before the next one that is due for it."""
    again: ProducerRecord | None = None
    for number, record in enumerate(records, 1):
        yield record
        if number % one_in == 0:
            if again:
                yield again
            again = record


def fill(settings: Settings, records: Iterable[ProducerRecord], count: int) -> None:
    """Send them all to the input topic; every one is confirmed."""
    with progress(f"filling {settings.prefix}", count) as advance:
        deliver(settings, records, advance)
