"""How records are cleaned and grouped, and how surveys are divided into folds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from releve.errors import nearest

FLAGS = (
    *("impossible_coordinates", "zero_coordinates", "equal_coordinates", "swapped_coordinates", "outside_extent"),
    *("sea", "country_centroid", "country_mismatch", "capital", "institution", "uncertain", "no_uncertainty"),
    *("imprecise", "bad_date", "no_date", "not_species", "duplicate"),
)
"""Every doubt about a record, in the order in which a dropped record is accounted for."""


class CleanConfig(BaseModel):
    """Which records are doubted, and which doubts drop a record.

    Examples
    --------
    >>> CleanConfig(drop=("sea", "duplicate"), max_uncertainty_m=250).drop
    ('sea', 'duplicate')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop: tuple[str, ...] = (
        *("impossible_coordinates", "zero_coordinates", "equal_coordinates", "swapped_coordinates", "outside_extent"),
        *("sea", "country_centroid", "institution", "uncertain", "imprecise", "bad_date", "not_species", "duplicate"),
    )
    """Names of ``FLAGS`` that drop a record."""
    max_uncertainty_m: float = Field(1000.0, gt=0)
    """Records whose coordinates may be further off than this, in metres, are ``uncertain``."""
    min_decimals: int = Field(2, ge=0, le=5)
    """Records whose longitude and latitude both have fewer decimals of a degree are ``imprecise``; 0: none is."""
    grid_deg: float = Field(0.25, ge=0, le=10)
    """Records on the nodes of a grid of this side, in degrees, are ``imprecise``; 0: none is."""
    first_year: int = Field(1900, ge=1600, le=2100)
    """Records of earlier years have a ``bad_date``."""
    last_year: int | None = Field(None, ge=1600, le=2200)
    """Records of later years have a ``bad_date``; by default, those after the year of the release. The day on which the
    records are read does not matter."""
    taxon_ranks: tuple[str, ...] = ("species", "subspecies", "variety", "subvariety", "form", "subform", "nothospecies")
    """Ranks, in any case, of records of a species; any other, but not a missing one, is ``not_species``."""
    sea_tolerance_km: float = Field(5.0, ge=0, le=20)
    """Records at ``sea`` lie further than this from any land; the mask adds at most 5.3 km."""
    border_tolerance_km: float = Field(5.0, ge=0, le=20)
    """Records of a ``country_mismatch`` lie in another country, further than this from the one they name."""
    centroid_radius_m: float = Field(1000.0, ge=0, le=50_000)
    """Records nearer than this to the centre of a country, in metres, are on its ``country_centroid``."""
    capital_radius_m: float = Field(1000.0, ge=0, le=50_000)
    """Records nearer than this to the centre of a capital, in metres, are in a ``capital``."""
    institution_radius_m: float = Field(250.0, ge=0, le=50_000)
    """Records nearer than this to an institution, in metres, are at an ``institution``."""
    institutions: Path | None = None
    """CSV table of herbaria, botanical gardens and the like with columns lon, lat (degrees); none is shipped."""

    @field_validator("drop")
    @classmethod
    def _know_flags(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in FLAGS:
                raise ValueError(f"unknown flag {name!r}: {nearest(name, FLAGS)}; the flags are {list(FLAGS)}")
        return names


MAX_SIZE_M = 1_000_000.0


class PseudoplotConfig(BaseModel):
    """How presence-only records are grouped into pseudo-plots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["single", "survey", "grid", "radius"] = "grid"
    """single: each record is a row of its own (what grouping is compared with); survey: the records of one survey id,
    as published; grid: square cells of equal area; radius: clusters whose members all lie within ``size_m`` of the
    cluster's centre."""
    size_m: float = 1000.0
    """Side of a cell (grid) or largest distance from the centre (radius), in metres, 1 to 1,000,000. Satellite patches
    of 128 pixels of 10 m cover 1,280 m. Single and survey use it for the rule on uncertainty only."""
    years: int | None = Field(None, ge=1, le=1000)
    """Length of the time window: 1 keeps years apart, 5 groups 2015-2019, 2020-2024, ...; null groups all years.
    Records without a year are then dropped."""
    uncertainty: Literal["ignore", "drop"] = "drop"
    """drop: a record is used only if its uncertainty is at most half of ``size_m``; ignore: its published place is
    taken as exact."""
    default_uncertainty_m: float = Field(100.0, ge=0, le=1e6)
    """Uncertainty of a record that states none, in metres."""
    min_species: int = Field(1, ge=1)
    """Pseudo-plots with fewer species are dropped, and their records counted."""

    @field_validator("size_m")
    @classmethod
    def _check_size(cls, size_m: float) -> float:
        if not 1 <= size_m <= MAX_SIZE_M:
            raise ValueError(f"size_m is {size_m:g}; expected metres from 1 to {MAX_SIZE_M:,.0f}")
        return size_m


class SplitConfig(BaseModel):
    """How labelled surveys are divided into folds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["blocks", "country", "region"] = "blocks"
    """What is held out whole: square blocks, countries or regions."""
    block_size_km: float = Field(50.0, gt=0)
    """Side of the square blocks."""
    num_folds: int = Field(5, ge=2, le=50)
    """Number of folds; with as many folds as countries or regions, each is left out in turn."""
    buffer_km: float = Field(1.0, ge=0)
    """Training rows nearer than this to a validation row are left out."""


GROUPINGS_IN_WORDS = {
    "single": "each record a row of its own",
    "survey": "the records of one survey id together",
    "grid": "square cells",
    "radius": "clusters",
}
"""What a report says of each ``PseudoplotConfig.method``."""
UNCERTAINTY_IN_WORDS = {
    "drop": "records less certain than half of that size were left out",
    "ignore": "published places were taken as exact",
}
"""What it says of each ``PseudoplotConfig.uncertainty``."""
HELD_OUT_IN_WORDS = {"blocks": "square blocks", "country": "countries", "region": "regions"}
"""What it says is held out whole, by ``SplitConfig.method``."""
