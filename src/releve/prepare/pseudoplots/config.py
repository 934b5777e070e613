"""How records are grouped: every choice, with its bounds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

PATCH_SIZE_M = 1280.0
"""Ground covered by a satellite patch: 128 pixels of 10 m."""
MAX_SIZE_M = 1_000_000.0


class PseudoplotConfig(BaseModel):
    """How presence-only records are grouped into pseudo-plots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["single", "survey", "grid", "radius", "patch"] = "grid"
    """single: each record is a row of its own (what grouping is compared with); survey: the records of one survey id,
    as published; grid: square cells of equal area; radius: clusters whose members all lie within ``size_m`` of the
    cluster's centre; patch: cells as large as a satellite patch."""
    size_m: float = 1000.0
    """Side of a cell (grid) or largest distance from the centre (radius), in metres, 1 to 1,000,000. The method patch
    takes 1,280 m; single and survey use it for the rule on uncertainty only."""
    years: int | None = Field(None, ge=1, le=1000)
    """Length of the time window: 1 keeps years apart, 5 groups 2015-2019, 2020-2024, ...; null groups all years.
    Records without a year are then dropped."""
    split_by: Literal["land_cover"] | None = None
    """land_cover: records of different land cover are never grouped; ``strata`` gives the class of each record."""
    crs: str | None = None
    """Equal-area CRS of the cells, such as EPSG:3035; null: EPSG:3035 in Europe, else chosen from the records."""
    uncertainty: Literal["ignore", "drop", "jitter"] = "drop"
    """drop: a record is used only if its uncertainty is at most half of ``size_m``; jitter: it is assigned as if it lay
    at a random place within its circle; ignore: its published place is taken as exact."""
    default_uncertainty_m: float = Field(100.0, ge=0, le=1e6)
    """Uncertainty of a record that states none, in metres."""
    visits: Literal["date", "survey"] = "date"
    """The sampling unit of the completeness estimates: the records of one day, or those of one survey id. Records
    without a full date always count by survey id."""
    min_species: int = Field(1, ge=1)
    """Pseudo-plots with fewer species are dropped, and their records counted."""
    min_records: int = Field(1, ge=1)
    """Pseudo-plots with fewer records are dropped, and their records counted."""
    publisher_cap: float | None = Field(None, gt=0)
    """The most records of one publisher in a pseudo-plot: a whole number, or below 1 a share of the pseudo-plot's
    records (at least one is kept). Records without a publisher are not capped. Null: no cap."""

    @field_validator("size_m")
    @classmethod
    def _check_size(cls, size_m: float) -> float:
        if not 1 <= size_m <= MAX_SIZE_M:
            raise ValueError(f"size_m is {size_m:g}; expected metres from 1 to {MAX_SIZE_M:,.0f}")
        return size_m

    @field_validator("publisher_cap")
    @classmethod
    def _check_cap(cls, cap: float | None) -> float | None:
        if cap is not None and cap >= 1 and cap != int(cap):
            raise ValueError(f"publisher_cap is {cap:g}; expected a whole number of records, or a share below 1")
        return cap

    @property
    def cell_size_m(self) -> float:
        """``size_m``, or the side of a patch with the method patch."""
        return PATCH_SIZE_M if self.method == "patch" else self.size_m
