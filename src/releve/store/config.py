"""What is read into a store."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

StoredModality = Literal["covariates", "landsat", "climate", "patch"]


class DataConfig(BaseModel):
    """What is read from a release into a store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    splits: tuple[str, ...] = ("train",)
    """Splits of the release whose surveys are rows of the store; may be empty where ``records`` is given."""
    records: str | None = None
    """Split of presence-only records that is cleaned, grouped into pseudo-plots and stored beside the surveys."""
    modalities: tuple[StoredModality, ...] = ("covariates", "landsat", "climate", "patch")
    """Modalities to store; one that the release lacks is left out, and said."""
    patch_storage: Literal["raw", "encoded"] = "raw"
    """``raw``: decoded arrays, fastest to gather; ``encoded``: the files' own bytes, several times smaller."""
    num_workers: int = Field(0, ge=0)
    """Workers that read files; 0 means one a core."""

    @model_validator(mode="after")
    def _some_rows(self) -> DataConfig:
        if not self.splits and self.records is None:
            raise ValueError("splits is empty and records is not given, expected one of them")
        if self.records in self.splits:
            raise ValueError(f"{self.records!r} is in splits and is records, expected it in one of them")
        return self
