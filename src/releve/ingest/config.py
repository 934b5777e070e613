"""A study of one's own, as its ``study.toml`` describes it: where plots, records and rasters lie, and what they mean.

Everything that says where data lie stands under ``[study]``; all other sections of the file are those of a recipe.
Files are named from the folder of the study file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Files = Annotated[str | tuple[str, ...], Field(description="file, pattern of files, or several")]
Role = Literal[
    "survey_id",
    "lon",
    "lat",
    "x",
    "y",
    "geometry",
    "species",
    "abundance",
    "occurrence_status",
    "count",
    "basis",
    "year",
    "month",
    "day",
    "date",
    "country",
    "region",
    "publisher",
    "taxon_rank",
    "area_m2",
    "uncertainty_m",
    "establishment",
    "degree",
    "split",
]
"""What a column of a table may mean; ``x, y`` are coordinates in a projection, ``geometry`` of a file that has one.

``split`` says of each plot of a table whether it is ``train`` or ``test``, in place of the whole table's ``split``."""


class Part(BaseModel):
    """A part of the study: strict, and fixed once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SpeciesTable(Part):
    """The species of plots, where they are in another table than the plots: joined by the plot's id."""

    file: Files
    layer: str | None = None
    """Sheet of an Excel file, or layer of a GeoPackage; the first by default."""
    form: Literal["long", "wide"] = "long"
    columns: dict[Role, str | tuple[str, ...]] = Field(default_factory=dict)
    """As of a table; ``survey_id`` is what the two tables are joined by."""
    species_columns: tuple[str, ...] = ()
    """As of a table."""


class TableConfig(Part):
    """A table of plots or of records: CSV and the like, parquet, Excel, GeoPackage, shapefile."""

    file: Files
    layer: str | None = None
    """Sheet of an Excel file, or layer of a GeoPackage; the first by default."""
    crs: str | None = None
    """Of the coordinates, such as EPSG:25832; by default the file's own, else degrees (EPSG:4326)."""
    form: Literal["long", "wide"] = "long"
    """``long``: a row for each plot and species; ``wide``: a row for each plot, a column for each species."""
    columns: dict[Role, str | tuple[str, ...]] = Field(default_factory=dict)
    """What a column means -> its name; several are joined by blanks (genus and epithet). Columns that are not named
    here are found by their usual names."""
    species: str | None = None
    """Name of the one species of a table that has no column of species."""
    species_columns: tuple[str, ...] = ()
    """Of a wide table: names, or patterns such as ``sp_*``; by default all columns that mean nothing else."""
    covariates: tuple[str, ...] = ()
    """Columns, or patterns of such, that are covariates of the place, such as ``soil_*``."""
    categorical: tuple[str, ...] = ()
    """Those of the covariates whose values are classes."""
    least_abundance: float | str | None = None
    """Least abundance that is a presence: a number, or a code of the Braun-Blanquet scale such as ``+``; by default
    every number above 0, every code but ``0``, ``-`` and ``.``."""


class PlotsConfig(TableConfig):
    """A table of plots: all species of a place were looked for."""

    split: Literal["train", "test"] = "train"
    """``test``: kept apart, and scored at the end."""
    species_table: SpeciesTable | None = None
    """Where the species are in a table of their own."""


class CovariateRange(Part):
    """The possible values of some columns; everything else is missing."""

    low: float = float("-inf")
    high: float = float("inf")
    fills: tuple[float, ...] = ()
    """Values inside the range that stand for no data."""
    units: str = ""
    categorical: bool = False


class CovariateTable(Part):
    """Values by plot id, such as soil samples or an embedding: a group of covariates of their own."""

    file: Files
    layer: str | None = None
    group: str
    key: str | None = None
    """Column of the plot's id; by default found by its usual names."""
    columns: tuple[str, ...] = ("*",)
    """Names, or patterns of such."""
    categorical: tuple[str, ...] = ()
    ranges: dict[str, CovariateRange] = Field(default_factory=dict)
    """Name or pattern of columns -> their possible values."""


class RasterConfig(Part):
    """One or several rasters of a kind: anything that GDAL reads."""

    file: Files
    """Also a remote path, such as ``/vsicurl/https://...`` or ``https://...``."""
    names: tuple[str, ...] = ()
    """Of the layers, in the order of files and bands; by default the bands' own, else the file's."""
    bands: tuple[int, ...] = ()
    """Bands to read, from 1; all by default."""
    group: str = "rasters"
    crs: str | None = None
    """In place of the file's own, or where it has none."""
    nodata: float | None = None
    """In place of the file's own."""
    scale: float | None = None
    """A value is the number in the file times ``scale`` plus ``offset``; by default the file's own."""
    offset: float | None = None
    categorical: bool | tuple[str, ...] | None = None
    """Whether the values are classes, or which layers' are; by default found from the file, and said."""
    method: Literal["nearest", "bilinear", "mean", "share"] = "nearest"
    """``nearest``: the cell that holds the place; ``bilinear``: between the four around it; ``mean``: of the cells
    within ``radius_m``; ``share``: of each class within ``radius_m``."""
    radius_m: float | None = Field(None, gt=0)
    derive: tuple[Literal["slope", "northness", "eastness", "roughness"], ...] = ()
    """Of an elevation raster: worked out from a cell and the eight around it."""

    @model_validator(mode="after")
    def _radius(self) -> RasterConfig:
        if (self.method in ("mean", "share")) != (self.radius_m is not None):
            raise ValueError(f"method is {self.method!r} and radius_m is {self.radius_m}, expected both or neither")
        return self


class PatchConfig(Part):
    """Patches cut from rasters around each place."""

    file: Files
    bands: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    """Of the bands; by default red, green, blue, nir in this order."""
    size_m: float = Field(1280.0, gt=0)
    """Side on the ground."""
    size_px: int = Field(128, ge=8, le=1024)
    crs: str | None = None


class SeriesConfig(Part):
    """Time series from dated rasters, or from a NetCDF / Zarr cube with a time axis."""

    modality: Literal["landsat", "climate"]
    """Which encoder reads it: ``landsat`` has quarters, ``climate`` months."""
    file: Files
    """A pattern with ``{channel}``, ``{year}`` and ``{season}`` (a number from 1), or a cube."""
    channels: tuple[str, ...]
    """Names in the pattern, or variables of the cube."""
    first_year: int
    last_year: int
    crs: str | None = None
    units: str = ""
    low: float = float("-inf")
    high: float = float("inf")
    """Possible values; everything else is missing."""


class RastersConfig(Part):
    """The rasters of a study: what can be told of any place."""

    crs: str | None = None
    """Of tables and rasters that name none themselves."""
    rasters: tuple[RasterConfig, ...] = ()
    patches: PatchConfig | None = None
    series: tuple[SeriesConfig, ...] = ()


class StudyConfig(RastersConfig):
    """Where the data of a study lie, and what they mean."""

    title: str = ""
    plots: tuple[PlotsConfig, ...] = ()
    records: tuple[TableConfig, ...] = ()
    covariates: tuple[CovariateTable, ...] = ()
    background: int | None = Field(None, ge=0, le=1_000_000)
    """Random places, at which nothing was recorded, beside the records; by default 10,000 where the records have too
    few species to be one another's background, else none."""
    random_places: tuple[TableConfig, ...] = ()
    """Tables of places that were drawn at random, with their covariates: taken in place of ``background``."""
    citation: str = ""
    """How the data are to be cited."""

    @model_validator(mode="after")
    def _some_species(self) -> StudyConfig:
        if not self.plots and not self.records:
            raise ValueError("neither plots nor records, expected a table [[study.plots]] or [[study.records]]")
        return self
