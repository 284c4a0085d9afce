"""The parts of Faust and aiokafka that are replaced were read in these versions, and in no others."""

from importlib.metadata import version

import pytest

from config.errors import ConfigurationError
from topics import versions


@pytest.mark.parametrize("name", versions.WRITTEN_FOR)
def test_another_version_is_told_before_anything_of_it_is_replaced(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions.refuse_others(*versions.WRITTEN_FOR)
    monkeypatch.setattr(versions, "version", lambda asked: "99.1" if asked == name else version(asked))
    with pytest.raises(ConfigurationError, match=rf"{name} 99\.1 is installed.*requirements\.txt"):
        versions.refuse_others(*versions.WRITTEN_FOR)
