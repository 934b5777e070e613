"""What a run is compared with."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator

from releve.errors import nearest

REFERENCES = (
    *("frequency", "frequency by region", "nearest places", "nearest environments"),
    *("logistic", "extra trees", "boosted trees"),
)
"""Reference models of all species, which make lists."""
SAMPLED_REFERENCES = ("MaxEnt",)
"""Reference models too slow for thousands of species, of a sample of species."""


class EvaluateConfig(BaseModel):
    """What a run is compared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    references: tuple[str, ...] = REFERENCES
    """Reference models fitted on the same folds."""

    @field_validator("references")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = (*REFERENCES, *SAMPLED_REFERENCES)
        for name in names:
            if name not in known:
                raise ValueError(f"unknown reference model {name!r}, {nearest(name, known)}")
        return names
