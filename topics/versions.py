"""The versions that `streams.faust` and `topics.fetching` were written for: they use parts that are not public."""

from importlib.metadata import version

from config.errors import ConfigurationError

#: The prefix of each supported version.
WRITTEN_FOR = {"faust-streaming": "0.15.", "mode-streaming": "0.7.", "aiokafka": "0.14."}


def refuse_others(*names: str) -> None:
    """Raise ConfigurationError for an untested version of these, before any part of it is patched or replaced."""
    for name in names:
        there, begin = version(name), WRITTEN_FOR[name]
        if not there.startswith(begin):
            raise ConfigurationError(
                f"{name} {there} is installed, but this needs {begin}x: install the versions of requirements.txt"
            )
