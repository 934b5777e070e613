"""What a simulated release holds: sizes, layout, modalities."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Layout = Literal["glc24", "glc25"]
Modality = Literal["covariates", "landsat", "climate", "patch"]


class SimulateConfig(BaseModel):
    """The size and shape of a virtual release.

    Examples
    --------
    >>> SimulateConfig(num_plots=100, seed=3).layout
    'glc24'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Layout = "glc24"
    """Official layout of the files: GeoLifeCLEF 2024 or 2025."""
    num_plots: int = Field(default=2_000, ge=10, le=1_000_000)
    """Presence-absence plots with labels (train)."""
    num_test_plots: int = Field(default=500, ge=4, le=1_000_000)
    """Presence-absence plots without labels (test); their truth is kept aside in ``truth/``."""
    num_records: int = Field(default=20_000, ge=10, le=20_000_000)
    """Presence-only records."""
    num_species: int = Field(default=300, ge=10, le=11_255)
    """Species of the world."""
    richness: float = Field(default=18.0, gt=0.5, le=200)
    """Mean number of species on a plot."""
    unseen_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of test plots in countries, or on 0.5 degree blocks, that hold no train plot."""
    cell_size_deg: float = Field(default=0.02, gt=0.0, le=0.5)
    """Cell of the rasters, in degrees; the world spans 12 x 10 degrees."""
    modalities: tuple[Modality, ...] = ("covariates", "landsat", "climate", "patch")
    """What is written beside the metadata."""
    po_patches: bool = False
    """Also write patches for presence-only surveys (slow: one or two files a survey)."""
    tables_only: bool = False
    """Metadata, plot covariates and truth only: no rasters, series or patches, no covariates of records."""
    seed: int = Field(default=0, ge=0)
    """Seed of every random number of the world."""


FULL_TABLES = SimulateConfig(
    num_plots=88_987, num_test_plots=4_716, num_records=5_079_797, num_species=10_000, tables_only=True
)
"""Tables as long as the official ones."""
