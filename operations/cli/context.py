"""The settings that a command works with: from the environment, or of the local stack if nothing is set."""

from pathlib import Path

from pydantic import SecretStr

from config import logs
from config.errors import ConfigurationError, NotReachable, WalletError
from config.settings import Settings, from_environment
from local import stack

#: Enough for two cores; the default of 12 is meant for a cluster.
LOCAL_PARTITIONS = 4


def current(*, servers: bool = True) -> Settings:
    """The settings of this command; also configures logging.

    If neither WALLET_KAFKA nor WALLET_POSTGRES is set and this folder has a local stack, its addresses are used, and
    4 partitions unless WALLET_PARTITIONS says otherwise. If one of the two is set, you chose your servers: a
    pipeline split between them and the local stack is never intended.
    Raises NotReachable if that stack is down: other servers may listen on the default ports. `servers=False` is for
    commands that need no server.
    """
    settings = from_environment()
    logs.configure(settings.log_level)
    if not servers:
        return settings
    if is_placed(settings):
        refuse_earlier_stack(settings)
        return settings
    return with_local_stack(settings)


def briefly() -> Settings:
    """The same for commands that only look: somebody is waiting, so they wait for servers only briefly."""
    settings = current()
    return settings.model_copy(update={"startup_wait_s": min(settings.look_wait_s, settings.startup_wait_s)})


def is_placed(settings: Settings) -> bool:
    """Whether the settings name servers."""
    return bool({"kafka", "postgres"} & settings.model_fields_set)


def refuse_earlier_stack(settings: Settings) -> None:
    """Raise ConfigurationError for the address of a local stack that was since deleted or moved."""
    local = stack.Stack()
    places = {"WALLET_KAFKA": settings.kafka, "WALLET_POSTGRES": settings.postgres.get_secret_value()}
    stale = [name for name, address in places.items() if local.had_before(address)]
    if stale:
        raise ConfigurationError(
            f"{' and '.join(stale)} point to an earlier stack of {local.folder}: run `wallet local up` and then "
            f'`eval "$(wallet local env)"` again, or unset WALLET_KAFKA, WALLET_POSTGRES and WALLET_PARTITIONS'
        )


def remedy(error: WalletError) -> str:
    """A hint to the local stack, for an error about servers when none were configured."""
    if not isinstance(error, NotReachable):
        return ""
    local, settings = stack.Stack(), from_environment()
    if local.addresses is None:
        return (
            "" if is_placed(settings) else f"; `wallet local up` starts both for commands run in {Path.cwd()}"
        )
    ours = {settings.kafka, settings.postgres.get_secret_value()} & {*local.addresses.environment.values()}
    if not ours or local.addresses_if_up():
        return ""
    return f"; the local stack of {local.folder} is down: run `wallet local up`"


def with_local_stack(settings: Settings) -> Settings:
    """The same settings with the addresses of this folder's stack, if there is one; NotReachable if it is down."""
    local = stack.Stack()
    found = local.addresses_if_up()
    if found is not None:
        return at_stack(settings, found)
    if local.addresses:
        raise NotReachable(
            f"the local stack of {local.folder} is down: run `wallet local up`, or set WALLET_KAFKA and "
            "WALLET_POSTGRES to your own servers"
        )
    return settings


def at_stack(settings: Settings, places: stack.Addresses) -> Settings:
    """The same settings at a local stack. Its number of partitions is a default too: WALLET_PARTITIONS wins."""
    changes: dict[str, object] = {"kafka": places.kafka, "postgres": SecretStr(places.postgres)}
    chosen = "partitions" in settings.model_fields_set
    there = settings.model_copy(update=changes if chosen else changes | {"partitions": LOCAL_PARTITIONS})
    if not chosen:
        there.model_fields_set.discard("partitions")
    return there


def environment(settings: Settings) -> dict[str, str]:
    """The WALLET_* variables that give a child process these settings, secrets included."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, Path):
            value = value.expanduser().absolute()  # the child's working folder may differ
        if value is not None:
            variables[f"WALLET_{name.upper()}"] = str(value)
    return variables
