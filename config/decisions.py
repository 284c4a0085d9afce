"""What decides outcomes, fixed once for a pipeline."""

from dataclasses import dataclass
from typing import Literal

Overdraft = Literal["allow", "reject"]


@dataclass(frozen=True)
class Decisions:
    """In the order of the pipeline record."""

    format: int
    partitions: int
    snapshot_every: int
    overdraft: Overdraft
    max_record_bytes: int
    id_window_days: int | None
    transaction_schema_id: int
