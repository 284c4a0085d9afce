"""What a partition's input may hold, as Hypothesis strategies: valid and invalid, again and in conflict.

Everything is drawn from small pools, so that duplicates, conflicts, overflows and full days are frequent.
"""

from hypothesis import strategies as st

from config.pipeline import Pipeline
from schemas.codec import encode_transaction, frame
from schemas.partitioner import partition_of
from schemas.records import Balance, Transaction
from streams.batch import Outputs
from streams.store import BEFORE_TIME
from streams.wallet import Known
from tests.unit.transactions import damaged, unusual_encodings
from topics.source import Source

PARTITIONS, PARTITION = 4, 1
DAY_MS = 86_400_000
#: An instant shortly before a midnight, UTC.
START_MS = 1_800_000_000_000 // DAY_MS * DAY_MS - 20_000
MAX_RECORD_BYTES = 1_024


def _names(partition: int, count: int) -> list[str]:
    candidates = (f"{name}-{number}" for number in range(1_000) for name in ("wallet", "käse", "財布"))
    return [name for name in candidates if partition_of(name.encode(), PARTITIONS) == partition][:count]


HERE, ELSEWHERE = _names(PARTITION, 3), _names(PARTITION + 1, 1)
IDS = [f"0b0e7d3c-2f65-4c6f-9d5e-00000000000{number}" for number in range(6)]

pipelines = st.builds(
    Pipeline,
    format=st.just(1),
    partitions=st.just(PARTITIONS),
    snapshot_every=st.integers(1, 4),
    overdraft=st.sampled_from(["allow", "reject"]),
    max_record_bytes=st.just(MAX_RECORD_BYTES),
    id_window_days=st.none() | st.integers(1, 2),
    transaction_schema_id=st.just(1),
)

_metadata = st.sampled_from(
    [(), (), (("a", "1"),), (("a", "1"), ("b", "2")), (("b", "2"), ("a", "1")), (("long", "x" * 1_000),)]
)
valid = st.builds(
    Transaction,
    transaction_id=st.sampled_from(IDS) | st.uuids().map(str),
    wallet_id=st.sampled_from(HERE),
    type=st.sampled_from([0, 0, 1]),
    amount=st.sampled_from([1, 2, 3]) | st.integers(1, 1_000) | st.sampled_from([2**62, 2**63 - 1]),
    currency=st.sampled_from(["EUR", "EUR", "EUR", "USD"]),
    occurred_us=st.just(1_800_000_000_000_000) | st.integers(10**15, 2 * 10**15),
    group_id=st.sampled_from([None, None, "transfer"]),
    metadata=_metadata,
)
broken = valid.flatmap(
    lambda good: st.sampled_from(
        [
            good._replace(amount=0),
            good._replace(currency="eur"),
            good._replace(wallet_id=""),
            good._replace(transaction_id=good.transaction_id.upper()),
            good._replace(group_id=""),
            good._replace(metadata=(("k", "1"), ("k", "2"))),
            good._replace(wallet_id="nul\0"),
        ]
    )
)
misrouted = valid.flatmap(
    lambda good: st.sampled_from(ELSEWHERE).map(lambda name: good._replace(wallet_id=name))
)

_junk = st.none() | st.binary(max_size=12) | st.binary(max_size=30).map(lambda body: frame(1) + body)
_header_values = st.none() | st.binary(max_size=20) | st.sampled_from([b"x" * 900])
headers = st.lists(
    st.tuples(
        st.sampled_from(["trace", "trace", "ä", "", "rejection.reason", "rejection.offset"]), _header_values
    ),
    max_size=3,
).map(tuple)


Keyed = tuple[bytes | None, bytes | None]


def _keyed(one: Transaction, schema_id: int = 1) -> Keyed:
    return one.wallet_id.encode(), frame(schema_id) + encode_transaction(one)


@st.composite
def _odd(draw: st.DrawFn) -> Keyed:
    """A key and a value of which one is not right, or legal bytes that no library writes."""
    one = draw(valid)
    key, value = _keyed(one)
    match draw(st.integers(0, 5)):
        case 0:
            return key, draw(_junk)
        case 1:
            return draw(
                st.none() | st.sampled_from([b"", b"\xff", b"somebody-else", HERE[0].encode()])
            ), value
        case 2:
            return _keyed(one, schema_id=2)
        case 3:
            return key, frame(1) + draw(unusual_encodings(one))
        case 4:
            return _keyed(draw(broken))
        case _:
            return _keyed(draw(misrouted))


@st.composite
def _keyed_values(draw: st.DrawFn) -> list[Keyed]:
    """Keys and values, most of them good; what came before comes again, as it was or with another amount."""
    found, sent = list[Keyed](), list[Transaction]()
    for _ in range(draw(st.integers(0, 20))):
        match draw(st.integers(0, 9)):
            case 0 | 1:
                found.append(draw(_odd()))
            case 2 | 3 if sent:
                again = draw(st.sampled_from(sent))
                found.append(_keyed(draw(st.sampled_from([again, again._replace(amount=4)]))))
            case _:
                sent.append(draw(valid))
                found.append(_keyed(sent[-1]))
    return found


@st.composite
def inputs(draw: st.DrawFn) -> list[Source]:
    """The records of a partition: offsets with holes, clocks that jump to and fro over midnights."""
    records, offset, now_ms = list[Source](), draw(st.integers(0, 5)), START_MS
    for key, value in draw(_keyed_values()):
        records.append(Source(offset, now_ms, key, value, draw(st.just(()) | st.just(()) | headers)))
        offset += draw(st.sampled_from([1, 1, 1, 2, 9]))
        now_ms += draw(st.sampled_from([0, 1, 5_000, 9_999, -3_000, DAY_MS, 2 * DAY_MS + 1, -DAY_MS]))
    return records


#: Whatever Kafka carries: bytes or none, names of any text, times of 64 bits.
_any_bytes = st.none() | st.binary(max_size=MAX_RECORD_BYTES + 50)
_any_headers = st.lists(st.tuples(st.text(max_size=20), _any_bytes), max_size=4).map(tuple)
_any_time = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10).map(lambda days: START_MS + days * DAY_MS)
_any_body = st.binary(max_size=200) | damaged(valid.map(encode_transaction)) | valid.map(encode_transaction)
_any_value = _any_bytes | st.builds(
    lambda number, body: frame(number) + body, st.sampled_from([1, 1, 1, 0]), _any_body
)
_any_key = st.sampled_from(HERE).map(str.encode) | _any_bytes


@st.composite
def anything(draw: st.DrawFn) -> list[Source]:
    """Records of which nothing is known but that Kafka has them, and that some would be accepted."""
    records, offset = list[Source](), draw(st.integers(0, 2**62))
    for _ in range(draw(st.integers(1, 12))):
        records.append(
            Source(
                offset, draw(_any_time), draw(_any_key), draw(_any_value), draw(st.just(()) | _any_headers)
            )
        )
        offset += draw(st.sampled_from([1, 2]))
    return records


@st.composite
def splits(draw: st.DrawFn, records: list[Source]) -> list[list[Source]]:
    """The same records in batches; each may begin with some that an earlier batch held already."""
    batches, at = list[list[Source]](), 0
    while at < len(records):
        end = draw(st.integers(at + 1, len(records)))
        batches.append(records[draw(st.integers(0, at)) : end])
        at = end
    return batches


class Memory:
    """A past in two dictionaries, and what a worker keeps beside it."""

    def __init__(self) -> None:
        self.all_balances: dict[bytes, Balance] = {}
        self.all_ids: dict[bytes, Known] = {}
        self.next_offset, self.recorded_ms = 0, BEFORE_TIME

    def balances(self, wallets: set[bytes]) -> dict[bytes, Balance]:
        return {wallet: self.all_balances[wallet] for wallet in wallets if wallet in self.all_balances}

    def known(self, ids: list[bytes]) -> dict[bytes, Known]:
        return {one: self.all_ids[one] for one in ids if one in self.all_ids}

    def take(self, outputs: Outputs) -> None:
        self.all_balances.update(outputs.balances)
        self.all_ids.update(outputs.new_ids)
        self.next_offset, self.recorded_ms = outputs.next_offset, outputs.recorded_ms
