"""The settings that a command works with: the environment's, or the local stack's where nothing is set."""

from pathlib import Path

from pydantic import SecretStr

from config import logs
from config.errors import ConfigurationError, NotReachable, WalletError
from config.settings import Settings, from_environment
from local import stack

#: Enough for two cores; the default of 12 is for a cluster.
LOCAL_PARTITIONS = 4


def current(*, servers: bool = True) -> Settings:
    """The settings of this command; logging is set up on the way.

    Where neither WALLET_KAFKA nor WALLET_POSTGRES is set and this folder has a local stack, its addresses are taken,
    and 4 partitions unless WALLET_PARTITIONS says otherwise. One of the two being set means that somebody
    chose a place, and a pipeline half here and half there would be nobody's intention.
    Raises NotReachable where that stack is down: whoever listens on the default ports is a stranger. A command that
    asks no server says so by `servers`.
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
    """The same for a command that only looks: somebody waits for its answer, and the servers are waited for briefly."""
    settings = current()
    return settings.model_copy(update={"startup_wait_s": min(settings.look_wait_s, settings.startup_wait_s)})


def is_placed(settings: Settings) -> bool:
    """Whether somebody chose servers."""
    return bool({"kafka", "postgres"} & settings.model_fields_set)


def refuse_earlier_stack(settings: Settings) -> None:
    """Raise ConfigurationError for an address that was this folder's stack's until it was deleted or moved."""
    local = stack.Stack()
    places = {"WALLET_KAFKA": settings.kafka, "WALLET_POSTGRES": settings.postgres.get_secret_value()}
    stale = [name for name, address in places.items() if local.had_before(address)]
    if stale:
        raise ConfigurationError(
            f"{' and '.join(stale)} lead to an earlier stack of {local.folder}: run `wallet local up` and then "
            f'`eval "$(wallet local env)"` again, or unset WALLET_KAFKA, WALLET_POSTGRES and WALLET_PARTITIONS'
        )


def remedy(error: WalletError) -> str:
    """What else helps somebody whose servers are away and who chose none: servers of this machine."""
    if not isinstance(error, NotReachable):
        return ""
    local, settings = stack.Stack(), from_environment()
    if local.addresses is None:
        return (
            ""
            if is_placed(settings)
            else f"; `wallet local up` starts both, for the commands in {Path.cwd()}"
        )
    ours = {settings.kafka, settings.postgres.get_secret_value()} & {*local.addresses.environment.values()}
    if not ours or local.addresses_if_up():
        return ""
    return f"; the local stack of {local.folder} is there, and down: run `wallet local up`"


def with_local_stack(settings: Settings) -> Settings:
    """The same settings with the addresses of this folder's stack, if it has one; NotReachable if that is down."""
    local = stack.Stack()
    found = local.addresses_if_up()
    if found is not None:
        return at_stack(settings, found)
    if local.addresses:
        raise NotReachable(
            f"the local stack of {local.folder} is down: run `wallet local up`, or set WALLET_KAFKA and "
            "WALLET_POSTGRES to other servers"
        )
    return settings


def at_stack(settings: Settings, places: stack.Addresses) -> Settings:
    """The same settings at a local stack. Its number of partitions is a default as another is: nobody has set it."""
    changes: dict[str, object] = {"kafka": places.kafka, "postgres": SecretStr(places.postgres)}
    chosen = "partitions" in settings.model_fields_set
    there = settings.model_copy(update=changes if chosen else changes | {"partitions": LOCAL_PARTITIONS})
    if not chosen:
        there.model_fields_set.discard("partitions")
    return there


def environment(settings: Settings) -> dict[str, str]:
    """The WALLET_* variables that give a child of ours these settings; secrets are in it."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, Path):
            value = value.expanduser().absolute()  # the child may have another working folder
        if value is not None:
            variables[f"WALLET_{name.upper()}"] = str(value)
    return variables
