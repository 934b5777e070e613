"""What is read into a store."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from releve.prepare.config import CleanConfig, PseudoplotConfig, SplitConfig

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


def recipe_of(
    data: DataConfig, split: SplitConfig | None, clean: CleanConfig, pseudoplots: PseudoplotConfig
) -> dict[str, Any]:
    """Return the part of the configuration that decides the bytes (not how many workers made them)."""
    return {
        "data": data.model_dump(mode="json", exclude={"num_workers"}),
        "split": split.model_dump(mode="json") if split else None,
        "clean": clean.model_dump(mode="json") if data.records else None,
        "pseudoplots": pseudoplots.model_dump(mode="json") if data.records else None,
    }


def recipe_differences(made: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return, in words, each setting in which a store's recipe is not the one wanted.

    Examples
    --------
    >>> made = {"data": {"patch_storage": "raw"}, "split": None}
    >>> recipe_differences(made, {"data": {"patch_storage": "encoded"}, "split": None})
    ["data.patch_storage is 'raw' in the store and 'encoded' in the recipe"]
    """
    differences = []
    for section, values in wanted.items():
        theirs, ours = made.get(section) or {}, values or {}
        for name in dict.fromkeys([*ours, *theirs]):
            if theirs.get(name) != ours.get(name):
                have = f"{theirs.get(name)!r} in the store and {ours.get(name)!r} in the recipe"
                differences.append(f"{section}.{name} is {have}")
    return differences
