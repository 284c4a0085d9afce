"""The settings that a command works with: the environment's, or the local stack's where nothing is set."""

from pathlib import Path

from pydantic import SecretStr, ValidationError

from config import logs
from config.errors import ConfigurationError
from config.settings import Settings
from local import stack

#: Enough for two cores; the default of 12 is for a cluster.
LOCAL_PARTITIONS = 4


def current() -> Settings:
    """The settings of this command; logging is set up on the way.

    Where neither WALLET_KAFKA nor WALLET_POSTGRES is set and the local stack is up, its addresses are taken,
    and 4 partitions unless WALLET_PARTITIONS says otherwise. One of the two being set means that somebody
    chose a place, and a pipeline half here and half there would be nobody's intention.
    """
    settings = from_environment()
    if not {"kafka", "postgres"} & settings.model_fields_set:
        settings = with_local_stack(settings)
    logs.configure(settings.log_level)
    return settings


def from_environment() -> Settings:
    """Settings of the environment and of .env; ConfigurationError names each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        # The input is left out: it may be a secret.
        wrong = [
            f"WALLET_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError(f"settings are wrong: {'; '.join(wrong)}") from None


def with_local_stack(settings: Settings) -> Settings:
    """The same settings with the addresses of the local stack, if that is up."""
    found = stack.addresses_if_up()
    if found is None:
        return settings
    return settings.model_copy(update=local_places(settings, found.kafka, found.postgres))


def local_places(settings: Settings, kafka: str, postgres: str) -> dict[str, object]:
    """What the local stack changes in the settings."""
    places: dict[str, object] = {"kafka": kafka, "postgres": SecretStr(postgres)}
    if "partitions" not in settings.model_fields_set:
        places["partitions"] = LOCAL_PARTITIONS
    return places


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
