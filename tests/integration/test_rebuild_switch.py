"""`wallet rebuild` from its start to the switch, with another number of partitions, and killed on the way."""

import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from config.errors import Refused
from config.settings import Settings
from operations.rebuild import diff as rebuild_diff
from operations.rebuild import run as rebuild_run
from operations.rebuild import status as rebuild_status
from operations.rebuild import switch as rebuild_switch
from operations.rebuild.place import Rebuild, groups_of
from operations.rebuild.status import missing
from schemas.records import Transaction
from tests.integration.pipelines import Upstream, as_record, open_transaction, transaction, wait_until
from tests.integration.rebuilds import live, picture, place, post
from tests.integration.verify_copies import told, verified
from tests.integration.workers import Worker, done
from topics.cluster import describe
from topics.lag import TopicPart
from topics.names import TIMESTAMP_TYPE

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(480)]


def test_twice_as_many_partitions_are_equal_and_switched_to(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3_000
    with live(settings, tmp_path, count) as here:
        rebuild_run.start(place(here, partitions=4), follow=False)
        there = place(here)
        assert rebuild_status.look(there).complete
        found = rebuild_diff.run(there, 5)
        assert found.equal, found.kinds
        assert found.live_reasons == found.shadow_reasons
        assert found.wallets > 90

        # A shadow waits for the marks of what was just written to it.
        topic = there.shadow.input or ""
        stray = as_record(transaction(1, "stray"), 4)
        with ExitStack() as held, monkeypatch.context() as patched:
            held.enter_context(open_transaction(here, topic, stray))
            assert not rebuild_status.look(there).complete
            waited_for: list[Mapping[TopicPart, int]] = []

            def release_once_missed(*asked: Any) -> Mapping[TopicPart, int]:
                if found := missing(*asked):
                    waited_for.append(found)
                    held.close()
                return found

            patched.setattr(rebuild_run, "missing", release_once_missed)
            rebuild_run.start(place(here), follow=False)
            assert waited_for

        with Worker(here, tmp_path / "still-there.log") as worker:
            wait_until(lambda: rebuild_switch.members(there, here.group) != [], "the live worker has joined")
            with pytest.raises(Refused, match=f"is still running: stop .* of group {here.group}"):
                rebuild_switch.run(there, execute=True)
            rehearsed = rebuild_switch.run(there, execute=False)
            assert any(f"group {here.group}" in one for one in rehearsed.obstacles)
            worker.stop()

        # What came after the shadow was built is copied, folded and written by the switch.
        late = [transaction(number, f"late-{number % 7}") for number in range(1, 101)]
        Upstream(here).send(as_record(one, 2) for one in late)
        post(here, tmp_path, count + 100)
        with (
            open_transaction(here, there.input, as_record(transaction(888, "late-0"), 2)),
            pytest.raises(Refused, match="a transaction is open in it"),
        ):
            rebuild_switch.run(there, execute=True)
        # A producer that was not stopped.
        catch_up = rebuild_run.catch_up

        def while_somebody_sends(there: Rebuild, *, last: bool) -> None:
            catch_up(there, last=last)
            Upstream(here).send([as_record(transaction(889, "late-0"), 2)])

        with monkeypatch.context() as patched:
            patched.setattr(rebuild_run, "catch_up", while_somebody_sends)
            with pytest.raises(Refused, match="records still arrive"):
                rebuild_switch.run(there, execute=True)
        assert describe(there.client, [topic])[topic].config[TIMESTAMP_TYPE] == "CreateTime"
        outcome = rebuild_switch.run(there, execute=True)
        assert outcome.executed
        assert outcome.pause_s is not None
        changes = {one.setting: one.shadow for one in outcome.changes}
        assert changes["WALLET_PREFIX"] == there.shadow.prefix
        assert changes["WALLET_PARTITIONS"] == "4"
        assert "WALLET_INPUT" not in changes, "it is the one that its prefix names"
        assert outcome.input == topic
        assert describe(there.client, [topic])[topic].config[TIMESTAMP_TYPE] == "LogAppendTime"
        with pytest.raises(Refused, match=r"was switched to at .*: choose another --prefix"):
            rebuild_run.start(place(here), follow=False)

        # Upstream goes on there, and a producer that was forgotten still sends to the old topic.
        switched = there.shadow.model_copy(update={"input": None})
        Upstream(switched).send(as_record(_moved(one), 4) for one in late)
        Upstream(here).send([as_record(transaction(777, "late-0"), 2)])
        assert rebuild_switch.run(place(here), execute=True).executed
        post(switched, tmp_path, count + 202)
        assert told(verified(switched)) == []


def _moved(one: Transaction) -> Transaction:
    return one._replace(wallet_id=f"new-{one.wallet_id}")


#: `wallet rebuild start` that ends by SIGKILL in the midst of copying or of folding, as its first argument says.
DIES_MIDWAY = """
import os, signal, sys
from confluent_kafka import Producer
from operations.main import main
from operations.rebuild import copy, run
from topics import clients

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(Producer):
    commits = 0
    def commit_transaction(self, *wait):
        self.commits += 1
        if self.commits == 5: die()
        super().commit_transaction(*wait)

def handled(*of, handled=run.handled):
    found = handled(*of)
    if any(found.values()): die()
    return found

if sys.argv.pop(1) == "copying":
    copy.BATCH_RECORDS, clients.Producer = 1_000, Dying
else:
    run.handled = handled
main()
"""


def test_a_rebuild_that_is_killed_at_copying_and_at_folding_ends_equal(
    settings: Settings, tmp_path: Path
) -> None:
    count = 40_000
    with live(settings.model_copy(update={"batch_records": 500}), tmp_path, count) as here:
        before = picture(here)
        command = ("rebuild", "start", "--partitions", "4")

        def killed(when: str) -> None:
            one = Worker(here, tmp_path / f"killed-{when}.log", *command, by=("-c", DIES_MIDWAY, when))
            assert one.wait() == -signal.SIGKILL, one.told()
            # Its children notice that nobody attends to them any more.
            there = place(here)
            wait_until(
                lambda: not any(rebuild_switch.members(there, group) for group in groups_of(there.shadow)),
                "the children of the killed command have ended",
            )

        killed("copying")
        steps = rebuild_status.look(place(here)).steps
        # Four transactions of up to 1,000 records.
        assert 0 < sum(step.position or 0 for step in steps if step.reader == "copy") <= 4_000
        killed("folding")
        done(here, tmp_path, *command)
        there = place(here)
        assert rebuild_status.look(there).complete
        found = rebuild_diff.run(there, 5)
        assert found.equal, found.kinds
        assert found.live_reasons == found.shadow_reasons
        assert told(verified(there.shadow)) == []
        assert picture(here) == before
