"""The pipeline that most tests of workers are about."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from tests.integration.pipelines import Rig, small


@pytest.fixture
def rig(kafka_only_settings: Settings, tmp_path: Path) -> Iterator[Rig]:
    """One with small limits, on Kafka alone."""
    with Rig(small(kafka_only_settings), tmp_path) as rig:
        yield rig
