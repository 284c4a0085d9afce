"""The pipeline record: what decides outcomes, written once by `wallet init` to `<prefix>.pipeline`.

Every program follows the record and refuses to start with other settings, so the same input always gives the same
output.
"""

import json
from dataclasses import asdict, dataclass

from config.decisions import Decisions
from config.errors import ConfigurationError, Refused
from config.settings import Settings

FORMAT = 1
KEY = b"pipeline"


@dataclass(frozen=True)
class Pipeline(Decisions):
    """The decisions of one pipeline as its record holds them."""

    @classmethod
    def of(cls, settings: Settings, transaction_schema_id: int) -> "Pipeline":
        """The record that these settings make."""
        return cls(
            FORMAT,
            settings.partitions,
            settings.snapshot_every,
            settings.overdraft,
            settings.max_record_bytes,
            settings.id_window_days,
            transaction_schema_id,
        )

    def to_json(self) -> bytes:
        """The record's value."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, value: bytes) -> "Pipeline":
        """Read a record's value; raises Refused for an unknown format."""
        fields = json.loads(value)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise Refused(
                f"the pipeline record has format {fields.get('format')!r}, this version reads {FORMAT}: upgrade"
            )
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})

    def check(self, settings: Settings) -> Settings:
        """These settings with what `init` has fixed, which you need not repeat.

        Raises ConfigurationError, naming each setting that is set to something else.
        """
        fixed = {name: value for name, value in asdict(self).items() if name in Settings.model_fields}
        differences = [
            f"WALLET_{name.upper()} is {getattr(settings, name)}, the pipeline has {value}"
            for name, value in fixed.items()
            if name in settings.model_fields_set and getattr(settings, name) != value
        ]
        if differences:
            raise ConfigurationError(
                f"settings are not those of the pipeline {settings.prefix!r}: {'; '.join(differences)}: unset "
                "them, or name another pipeline with WALLET_PREFIX"
            )
        return self.rule(settings)

    def rule(self, settings: Settings) -> Settings:
        """These settings with what `init` has fixed, without a check: for commands that only look."""
        fixed = {name: value for name, value in asdict(self).items() if name in Settings.model_fields}
        return settings.model_copy(update=fixed)
