"""The versions that `streams.faust` was written for: it uses parts of them that are not public."""

from importlib.metadata import version

from config.errors import ConfigurationError

#: The prefix of each supported version.
WRITTEN_FOR = {"faust-streaming": "0.15.", "mode-streaming": "0.7.", "aiokafka": "0.14."}


def refuse_others() -> None:
    """Raise ConfigurationError for an untested version, before any part of it is patched or replaced."""
    for name, begin in WRITTEN_FOR.items():
        there = version(name)
        if not there.startswith(begin):
            raise ConfigurationError(
                f"{name} {there} is installed, but this worker needs {begin}x: install the versions of requirements.txt"
            )
