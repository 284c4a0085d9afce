"""Which schema ids a shadow accepts: those of the live pipeline, as recorded in its log.

Otherwise the shadow's worker would ask the registry, whose versions come and go, about records that the live one
decided long ago.
"""

from collections.abc import Iterable
from dataclasses import replace

from confluent_kafka import KafkaException, Producer

from config.errors import NotReachable, Refused
from operations.rebuild.place import Place
from operations.verify.cut import cuts
from schemas.accepted import Accepted
from streams.accepted import own, read_accepted
from topics.clients import transactional
from topics.cluster import read_pipeline
from topics.names import Topics

WRITE_S = 30.0


def take_ids_over(place: Place) -> None:
    """Write the accepted ids to the shadow's pipeline topic, for partitions that its worker has not started.

    Over the same input, these are the ids of the same partition of the live pipeline, and no others up to where that
    one is. A copy has other offsets: there, an id accepted in any partition is accepted in all, from the first record
    on. Either all of it is written or nothing.
    """
    if place.live.registry is None:
        return
    pipeline = read_pipeline(place.shadow)
    if pipeline is None:
        raise Refused(
            f"topic {Topics.of(place.shadow).pipeline} holds no pipeline record: run `wallet rebuild start` again"
        )
    there = read_accepted(place.shadow)
    decided = {
        cut.partition: cut.source for cut in cuts(place.shadow, place.client, range(pipeline.partitions))
    }
    new = [at for at, source in decided.items() if source == 0 and at not in there]
    # 1. How far the live pipeline is, 2. its accepted ids: in this order, none that matters before 1. is missed.
    handled = {
        cut.partition: cut.source for cut in cuts(place.live, place.client, range(place.live.partitions))
    }
    kept = read_accepted(place.live)
    foreign = {
        at: {one.schema_id: one for one in ids if one.schema_id != pipeline.transaction_schema_id}
        for at, ids in kept.items()
    }
    records: list[Accepted] = []
    if place.copied:
        anywhere = {schema_id: one for ids in foreign.values() for schema_id, one in ids.items()}
        for at in new:
            records += [own(pipeline, at, 0), *_in(at, anywhere.values(), from_offset=0)]
    else:
        for at in new:
            if at in kept:  # otherwise an older release wrote there, and its worker asks the registry
                records += [own(pipeline, at, handled[at]), *_in(at, foreign[at].values())]
    if records:
        _write(place, records)


def _in(partition: int, ids: Iterable[Accepted], from_offset: int | None = None) -> list[Accepted]:
    return [
        replace(
            one,
            partition=partition,
            from_offset=one.from_offset if from_offset is None else from_offset,
            complete_to=None,
        )
        for one in ids
    ]


def _write(place: Place, records: list[Accepted]) -> None:
    producer = Producer(transactional(place.shadow, f"{place.shadow.prefix}-init"))
    try:
        producer.init_transactions(WRITE_S)
        producer.begin_transaction()
        for one in records:
            producer.produce(Topics.of(place.shadow).pipeline, one.to_json(), one.key, 0)
        producer.commit_transaction(WRITE_S)
    except KafkaException as failure:
        raise NotReachable(
            f"cannot write the shadow's schema ids: {failure.args[0].str()}; run it again to continue"
        ) from None
