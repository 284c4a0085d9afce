"""One run: servers, programs, load and faults by a schedule, then the audit."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import SecretStr

from config.errors import WalletError
from config.settings import Settings
from local.state import free_port
from operations.cli.context import environment
from operations.looking import status
from operations.setup.init import initialise
from tests import clock
from tests.faults import small_disk
from tests.faults.cluster import Cluster
from tests.faults.database import Postgres
from tests.faults.faults import FAULTS
from tests.faults.gate import Gate
from tests.faults.load import Load
from tests.faults.on_call import Operator
from tests.faults.progress import Progress
from tests.faults.report import Report
from tests.faults.scene import Scene, Skipped
from tests.faults.schedule import ON_SMALL_DISK, SINKS, WORKERS, Fault
from tests.faults.supervision import Program, Supervisor
from tests.faults.verdict import audit
from topics.cluster import quiet_admin

#: Nobody may stand still for so long. The longest that a fault explains: a broker comes back (20 s) with members that
#: it alone remembers, the group waits for them (60 s), and they hold their partitions for a session more.
STALL_LIMIT_S = 120.0
#: After the last fault everything must be posted and written within this time.
SETTLE_S = 180.0
PASSWORD = "torture"  # noqa: S105 - of a server that lives for one run on loopback

#: Small limits, so that a short run meets all of them, and a watchdog that bites within it.
LIMITS: dict[str, object] = {
    "prefix": "torture",
    "partitions": 4,
    "overdraft": "reject",
    "max_record_bytes": 2_048,
    "snapshot_every": 7,
    "batch_records": 500,
    "session_timeout_s": 6.0,
    "transaction_timeout_s": 10.0,
    "retry_wait_s": 1.0,
    "startup_wait_s": 30.0,
    "stall_s": 30.0,
    "postgres_timeout_s": 5.0,
    "watchdog_s": 60.0,
    "standbys": 1,
}

Say = Callable[[str], None]


def run(
    faults: Sequence[Fault], seconds: float, folder: Path, *, seed: int, brokers: int, rate: float, say: Say
) -> Report:
    """Play a schedule for so many seconds and report; everything that it started has ended when it returns."""
    report = Report(seed, brokers, str(folder))
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        scene = stack.enter_context(_scene(folder, seed, brokers, rate, stack))
        everybody = [*scene.programs.values(), scene.visitor, scene.spare]
        supervisor = Supervisor(everybody)
        stack.callback(supervisor.kill_all)
        for program in scene.programs.values():
            program.release()
        scene.load.start()
        began = time.monotonic()
        progress = Progress(scene.settings, began)
        progress.start()
        stack.callback(progress.stop)
        operator = Operator(scene, folder / "servers")
        operator.start()
        stack.callback(operator.stop)
        stack.callback(scene.load.stop)
        stack.callback(scene.ended.set)
        made = _play(scene, faults, began, seconds, report, progress, say)
        scene.load.stop()
        _settle(scene, report)
        progress.stop()
        report.ran_s = time.monotonic() - began
        supervisor.stop_all()
        report.add_ends(everybody)
        report.add_stalls(made, progress.stalls)
        report.told = scene.told
        report.renewed = progress.renewed
        report.problems += scene.load.problems
        audit(scene.settings, scene.load, report)
    report.save()
    return report


@contextmanager
def _scene(folder: Path, seed: int, brokers: int, rate: float, stack: ExitStack) -> Iterator[Scene]:
    """Servers that answer, a pipeline that is initialised, programs that are not started yet."""
    servers = folder / "servers"
    plain = Settings(_env_file=None)
    cluster = stack.enter_context(Cluster(servers, plain.local_cache, brokers))
    port = free_port(without=[])
    postgres = Postgres(servers, port, PASSWORD)
    postgres.start()
    stack.callback(postgres.kill)
    gate = Gate(port)
    stack.callback(gate.close)
    limits = LIMITS | {"kafka": cluster.address, "postgres": SecretStr(postgres.dsn)}
    settings = plain.model_copy(update=limits)
    initialise(settings)
    through = SecretStr(postgres.dsn.replace(f":{port}/", f":{gate.port}/"))
    variables = environment(settings.model_copy(update={"postgres": through}))

    def program(name: str, *words: str) -> Program:
        return Program(name, words, variables, folder, folder / "state" / name)

    library = clock.library()
    yield Scene(
        settings=settings,
        cluster=cluster,
        postgres=postgres,
        gate=gate,
        load=Load(settings, seed, rate),
        programs={
            **{name: program(name, "worker") for name in WORKERS},
            **{name: program(name, "sink", "all") for name in SINKS},
        },
        visitor=program("visitor-1", "worker"),
        spare=program("spare-1", "worker"),
        small_disk=stack.enter_context(small_disk.mounted(folder / "state" / ON_SMALL_DISK)),
        clock=clock.Clock(library, folder / "clock") if library else None,
    )


def _play(
    scene: Scene,
    faults: Sequence[Fault],
    began: float,
    seconds: float,
    report: Report,
    progress: Progress,
    say: Say,
) -> list[tuple[float, Fault]]:
    """Make each fault at its second, in a thread of its own; returns when which one really began, by time."""
    made: list[tuple[float, Fault]] = []

    def make(fault: Fault) -> None:
        try:
            with scene.alone_with(fault):
                made.append((time.monotonic() - began, fault))
                say(f"{time.monotonic() - began:7.1f} s  {fault.kind} of {fault.target}")
                FAULTS[fault.kind](scene, fault)
                report.faults[fault.kind] += 1
        except Skipped as reason:
            report.skipped[fault.kind] = str(reason)
        except Exception as failure:  # noqa: BLE001 - told in the report
            report.problems.append(f"{fault.kind} of {fault.target} could not be made: {failure!r}")

    threads: list[threading.Thread] = []
    for fault in faults:
        _wait_until(scene, began + fault.at_s, report, progress)
        if scene.ended.is_set():
            break
        threads.append(threading.Thread(target=make, args=(fault,), name=fault.kind))
        threads[-1].start()
    _wait_until(scene, began + seconds, report, progress)
    for thread in threads:
        thread.join()
    return sorted(made, key=lambda one: one[0])


def _wait_until(scene: Scene, deadline: float, report: Report, progress: Progress) -> None:
    while (left_s := deadline - time.monotonic()) > 0 and not scene.ended.is_set():
        scene.rest(min(1.0, left_s))
        if standing := progress.standing(STALL_LIMIT_S):
            report.problems.append(
                f"no progress for {STALL_LIMIT_S:g} s, the run is cut short: {', '.join(standing)}"
            )
            scene.ended.set()


def _settle(scene: Scene, report: Report) -> None:
    """Wait until everything is posted and written."""
    began, client = time.monotonic(), quiet_admin(scene.settings)
    lags: dict[str, int] = {}
    while time.monotonic() - began < SETTLE_S:
        try:
            look = status.look(scene.settings, client)
            lags = {reader: look.lag(reader) for reader in ("worker", "ledger", "snapshots", "rejections")}
            if look.postgres_problem is None and not any(lags.values()):
                report.settled_s = time.monotonic() - began
                return
        except WalletError as failure:
            report.checks["last look"] = str(failure)
        time.sleep(0.5)
    report.problems.append(f"not everything was posted and written within {SETTLE_S:g} s; lags: {lags}")
