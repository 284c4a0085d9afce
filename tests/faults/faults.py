"""Each kind of fault of the schedule, as a function of the scene and of the fault: where, how long, with which dice.

A function returns when its fault is over and everything may run again; programs that were killed are started by the
supervisor.
"""

from collections.abc import Callable

from tests.faults import program_faults, server_faults
from tests.faults.scene import Scene
from tests.faults.schedule import Fault

FAULTS: dict[str, Callable[[Scene, Fault], None]] = {
    "worker_killed": program_faults.killed,
    "worker_stopped": program_faults.stopped,
    "worker_suspended": program_faults.suspended,
    "worker_state_lost": program_faults.worker_state_lost,
    "worker_disk_full": program_faults.worker_disk_full,
    "worker_clock_jumped": program_faults.clock_jumped,
    "sink_killed": program_faults.killed,
    "sink_stopped": program_faults.stopped,
    "sink_suspended": program_faults.suspended,
    "sink_clock_jumped": program_faults.clock_jumped,
    "broker_killed": server_faults.broker_killed,
    "broker_suspended": server_faults.broker_suspended,
    "postgres_killed": server_faults.postgres_killed,
    "postgres_suspended": server_faults.postgres_suspended,
    "postgres_sessions_ended": server_faults.postgres_sessions_ended,
    "postgres_cut_in_copy": server_faults.postgres_cut_in_copy,
    "postgres_commit_unanswered": server_faults.postgres_commit_unanswered,
    "postgres_backup": server_faults.postgres_backup,
    "postgres_restored": server_faults.postgres_restored,
    "rebalances_in_succession": program_faults.rebalances_in_succession,
    "kills_in_succession": program_faults.kills_in_succession,
    "idle_spare": program_faults.idle_spare,
    "partitions_to_and_fro": program_faults.partitions_to_and_fro,
    "group_offsets_deleted": program_faults.group_offsets_deleted,
    "upstream_left_open": program_faults.upstream_left_open,
}
