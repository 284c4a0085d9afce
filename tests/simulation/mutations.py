"""Small changes of the source that each break one rule of order: the simulation must see every one of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sinks import positions
from sinks.consumer import Consumption
from sinks.writer import Writer
from streams import absorb, agreement, writer
from streams.catchup import CatchUp
from streams.store import PartitionStore
from streams.transaction import PartitionProducer
from streams.writer import PartitionWriter
from tests.edits import Edit, edited
from tests.simulation.schedules import (
    Play,
    play_endings,
    play_late,
    play_rolled_back,
    play_sinks,
    play_torn,
    play_workers,
)
from topics import consuming


class Mutation(NamedTuple):
    """What is broken, in whose schedules that must show, the edits that do it, and the checks that may see it.

    `seen_by` is a regular expression for the first line of what a schedule fails with.
    """

    name: str
    play: Play
    edits: Sequence[Edit]
    seen_by: str
    first_seed: int


@contextmanager
def broken(mutation: Mutation) -> Iterator[None]:
    """Run with the edits in place."""
    with edited(mutation.name, mutation.edits):
        yield


_DECIDED = "outputs = fold.outputs(records, self.next_offset, store.cursor.recorded_ms)\n"
_SEND_OFFSETS = "                self._flush()\n                self._send_offsets(offsets)\n"
_SEND_OFFSETS_FIRST = "                self._send_offsets(offsets)\n                self._look_back()\n"
_INIT = "partial(self._producer.init_transactions, OPEN_TRY_S)\n"
_COMMIT = "            self._commit()\n"
_COMMIT_ALONE = "self._open_transactions._committed.commit(offsets=offsets, asynchronous=False)"
_FENCE = "        self._fence()\n"
_IS_TO_LOOK_BACK, _NEVER = "look_back := self._is_to_look_back()", "look_back := False"
_PRODUCED = "                self._produce(self._topics.balances, balances)\n"
_LEFTOVERS = "                self._end_leftovers(self._store)\n"
_TAKE_OVER = "        self._take_over()\n"
_UNLESS_STALLED = (
    "        elif unread and time.monotonic() - heard_at > stall_s:\n"
    '            raise failed(", ".join(unread), None)\n'
)
_OPENED = "        took_s = time.monotonic() - started"
_ADVANCE = "            positions.advance(self._connection, self._holder, prepared.batch.moves)\n"
_BEGIN = "        with self._connection.transaction():\n"
_SAVE_CURSOR = "        put(CURSOR, _CURSOR.pack(*cursor))\n"
_SAVE_CURSOR_ALONE = (
    "        alone = WriteBatch(raw_mode=True)\n"
    "        alone.put(CURSOR, _CURSOR.pack(*cursor))\n"
    "        self._write(alone)\n"
)
_OWNER = "AND p.owner = %s"
_OWNED = "AND owner = %s"
_ANYBODY = "AND %s IS NOT NULL"

#: What sees them: the topics' content, a partition that is not opened, what nobody gets through.
_OUTPUTS = "ledger$|rejections$|snapshots$"
_DIFFERS = ".*for wallet .* `ledger` has "
_OPEN = ".*the record at .* is open, but records of later source offsets are committed"
_SKIPPED = ".*has neither entry nor rejection"
_AHEAD = ".*the store .* has seen offset "
_NOT_THROUGH = "the last worker did not get through|the sinks did not get through"
_ROWS = ".*rows that are not those of the positions' moves"
_OWNERS = ".*moved by another than its owner"

#: What is broken, under whose schedules must show it: the checks that may see it, and the edits that do it.
_BROKEN: dict[Play, dict[str, tuple[str, *tuple[Edit, ...]]]] = {
    play_workers: {
        "the store is written before the commit": (
            f"{_DIFFERS}|{_OUTPUTS}|the cursor's recorded_at$",
            Edit(
                PartitionWriter._post,
                _DECIDED,
                _DECIDED + "            store.write(outputs.changelog, outputs.new_ids, store.cursor)\n",
            ),
        ),
        "the offset is committed before the transaction": (
            f"{_SKIPPED}|the group's offset$",
            Edit(PartitionProducer.write, _SEND_OFFSETS, "                pass\n"),
            Edit(PartitionProducer.write, _SEND_OFFSETS_FIRST, "                self._look_back()\n"),
            Edit(PartitionProducer.write, _PRODUCED, f"{_PRODUCED}            {_COMMIT_ALONE}\n"),
        ),
        "the offset is committed after the transaction": (
            f"{_SKIPPED}|the group's offset$",
            Edit(PartitionProducer.write, _SEND_OFFSETS, "                pass\n"),
            Edit(PartitionProducer.write, _SEND_OFFSETS_FIRST, "                self._look_back()\n"),
            Edit(PartitionProducer.write, _COMMIT, f"{_COMMIT}            {_COMMIT_ALONE}\n"),
        ),
        "a producer is used on after an abort": (
            f"the group's offset$|{_OUTPUTS}|{_OPEN}|{_DIFFERS}|{_SKIPPED}",
            Edit(
                PartitionWriter._renew,
                "        self._producer.close()\n" + _TAKE_OVER,
                "        self._end_leftovers(self._store)\n        self._catch_up(self._store)\n",
            ),
        ),
        "what Kafka left open is not ended when a partition is opened": (
            f"{_OUTPUTS}|{_NOT_THROUGH}",
            Edit(PartitionWriter._take_over, _LEFTOVERS, ""),
        ),
        "a transaction writes behind one that is open": (
            f"{_OPEN}|{_OUTPUTS}",
            Edit(PartitionProducer.write, _IS_TO_LOOK_BACK, _NEVER),
        ),
        "the store vouches for records that left no entry": (
            f"{_OPEN}|{_SKIPPED}|{_OUTPUTS}|{_AHEAD}|position",
            Edit(
                writer._moved,
                "cursor.source if newest is None else newest.source_offset + 1",
                "outputs.next_offset",
            ),
        ),
        "recovery stops at the first batch": (
            _DIFFERS,
            Edit(CatchUp._absorb, "done += len(batch)\n", "done += len(batch)\n            break\n"),
        ),
        "recovery stops when nothing comes": (
            f"{_SKIPPED}|{_DIFFERS}|{_OUTPUTS}",
            Edit(consuming.read_to_ends, _UNLESS_STALLED, "        else:\n            return\n"),
        ),
        "the position is compared with >": (
            _OUTPUTS,
            Edit(
                PartitionWriter.post, "record.offset >= self.next_offset", "record.offset > self.next_offset"
            ),
        ),
        # What it writes twice is found open.
        "what comes again is not skipped": (
            rf"{_OUTPUTS}|worker-\d+@\d+ failed: AssertionError\(Torn",
            Edit(PartitionWriter.post, "record.offset >= self.next_offset", "record.offset >= 0"),
        ),
        "the position is the last rejection's, not one past it": (
            _SKIPPED,
            Edit(CatchUp._handled, "rejected + 1)", "rejected)"),
        ),
        "the position does not ask the rejections": (
            _SKIPPED,
            Edit(CatchUp._handled, "-1 if rejected is None else rejected + 1", "-1"),
        ),
        "nobody is fenced: each producer has a transactional id of its own": (
            f"{_OPEN}|{_NOT_THROUGH}|{_OUTPUTS}",
            Edit(
                PartitionProducer.__init__,
                "{settings.group}-{partition}",
                "{settings.group}-{partition}-{id(self)}",
            ),
        ),
        "init_transactions is left out": (_NOT_THROUGH, Edit(PartitionProducer.open, _INIT, "list\n")),
        "the former owner is fenced after the store has caught up": (
            f"{_OUTPUTS}|{_NOT_THROUGH}|{_AHEAD}",
            Edit(PartitionWriter._take_over, "                self._fence()\n", ""),
            Edit(PartitionWriter.open, _OPENED, _FENCE + _OPENED),
        ),
        "the cursor is written before the batch": (
            _DIFFERS,
            Edit(PartitionStore._take_over, _SAVE_CURSOR, _SAVE_CURSOR_ALONE),
        ),
        "the cursor is not saved": (
            "the store's cursor of",
            Edit(PartitionStore._take_over, _SAVE_CURSOR, ""),
        ),
        "the cursor runs ahead of what was seen": (
            _AHEAD,
            Edit(PartitionProducer._reported, "offset + 1", "offset + 3"),
        ),
        "balances are absorbed, ids are not": (
            f"ids in the store$|{_OUTPUTS}",
            Edit(
                absorb.absorb,
                "            ids[posted] = _new(Known, (content, _recorded_ms(recorded)))\n",
                "",
            ),
        ),
        "the oldest balance of a stretch is absorbed": (
            _DIFFERS,
            Edit(
                absorb.absorb,
                "changes[key] = value[HEADER_BYTES:]",
                "changes.setdefault(key, value[HEADER_BYTES:])",
            ),
        ),
        "the oldest entry of a stretch tells its wallet's balance": (
            _DIFFERS,
            Edit(absorb.absorb, "newest[key] = found", "newest.setdefault(key, found)"),
        ),
        "a copy takes over what one topic alone tells": (
            _DIFFERS,
            Edit(agreement.agree_on, "entries.get(wallet) == change", "True"),
        ),
        "what was set aside is forgotten": (
            f"{_OUTPUTS}|{_DIFFERS}",
            Edit(PartitionStore.confirm, "_put(batch, BALANCE, changelog)", "pass"),
        ),
    },
    play_late: {
        "the producer is kept after a commit that was not answered in time": (
            f"{_OUTPUTS}|{_DIFFERS}|{_SKIPPED}",
            Edit(PartitionWriter.post, "self._producer.is_spent", "None"),
        ),
        "the producer is kept after a commit that librdkafka has sent again by itself": (
            f"{_OUTPUTS}|{_DIFFERS}|{_SKIPPED}",
            Edit(PartitionProducer._commit, ">= SENT_AGAIN_S", "> 1.0"),
        ),
    },
    play_endings: {
        "what Kafka left open is not ended before a batch is posted again": (
            _OUTPUTS,
            Edit(PartitionWriter._renew, _TAKE_OVER, _FENCE + "        self._catch_up(self._store)\n"),
        ),
        "a batch is posted again although the one before it was rolled back, too": (
            _OUTPUTS,
            Edit(PartitionWriter._renew, "if self.next_offset < before:", "if None:"),
        ),
    },
    play_torn: {
        "a transaction looks for an open one before it only when it has written": (
            _OUTPUTS,
            Edit(PartitionProducer.write, _IS_TO_LOOK_BACK, _NEVER),
            Edit(
                PartitionProducer.write,
                _PRODUCED,
                f"{_PRODUCED}            if self._is_to_look_back():\n                self._look_back()\n",
            ),
        ),
        "what is open is rolled back whatever else of its transaction is there": (
            _OUTPUTS,
            Edit(
                PartitionWriter._end_leftovers,
                "self._catching_up(store).refuse_half_ended(left, self.stopping)",
                "pass",
            ),
        ),
        **{
            f"{what} that is open is rolled back although others of its transaction are there": (
                _OUTPUTS,
                Edit(CatchUp._belongs_before, old, "False"),
            )
            for what, old in (
                ("an entry", "decode_entry(body).source_offset < handled"),
                ("a snapshot", "self._is_taken(decode_snapshot(body))"),
                ("a rejection", "rejected is not None and rejected < handled"),
            )
        },
        "a snapshot without its entry is left where it is": (
            "snapshots",
            Edit(CatchUp.refuse_half_ended, "not self._is_taken(last)", "False"),
        ),
        "what is open is rolled back although the group's offset stands behind its source": (
            _OUTPUTS,
            Edit(CatchUp.refuse_half_ended, "self._belongs_before(message, committed)", "False"),
        ),
        "a balance that no entry accounts for is taken": (
            _OUTPUTS,
            Edit(agreement.agree, "if balance is None:", "if None:"),
            Edit(agreement.agree, "balance.source_offset", "0"),
            Edit(agreement.agree, "balance.recorded_ms", "0"),
        ),
    },
    play_rolled_back: {
        "the store's newest entry is not looked for": (
            "refused, though nothing of it was to be read",
            Edit(PartitionStore.first_to_read, "newest if newest >= begin else None", "None"),
        )
    },
    play_sinks: {
        "rows and position of a sink are two transactions": (
            _ROWS,
            Edit(Writer._transaction, _ADVANCE, ""),
            Edit(Writer._transaction, _BEGIN, _ADVANCE[4:] + _BEGIN),
        ),
        "a sink writes rows without its position": (_ROWS, Edit(Writer._transaction, _ADVANCE, "")),
        "a sink's position is moved whatever it is": (
            _ROWS,
            Edit(positions.advance, "AND p.next_offset = m.expected", ""),
        ),
        "a sink's position is moved whosever it is": (_OWNERS, Edit(positions.advance, _OWNER, _ANYBODY)),
        "no owner of a sink's position at all": (
            _OWNERS,
            Edit(positions.advance, _OWNER, _ANYBODY),
            Edit(positions.owned, _OWNED, _ANYBODY),
        ),
        "a sink compares its position with >": (
            _ROWS,
            Edit(Consumption._batch, "if offset >= next_offsets", "if offset > next_offsets"),
        ),
        "an idle sink does not look at its positions": (
            _NOT_THROUGH,
            Edit(Consumption.run, "self._look()", "pass"),
        ),
        "a sink whose positions went back does not join anew": (
            _NOT_THROUGH,
            Edit(Consumption.run, "self._join_anew()", "pass"),
        ),
    },
}
#: The first of the seeds that are played in `make test`: a rare one is not waited for each time.
_FIRST_SEEDS = {"a copy takes over what one topic alone tells": 14_000}
MUTATIONS = [
    Mutation(name, play, edits, seen_by, _FIRST_SEEDS.get(name, 0))
    for play, mutations in _BROKEN.items()
    for name, (seen_by, *edits) in mutations.items()
]
