"""The official releases as data: which file holds what, how a value is coded, which values are possible.

A new release is a new row of ``LAYOUTS``. Patterns are regular expressions searched in the path of a file
relative to the release, after :func:`releve.ingest.names.normalise`; ``{split}`` stands for the split's token
and ``{channel}`` for a band or variable. Single and doubled folders (as Kaggle unpacks them) match alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from releve.ingest.names import normalise


@dataclass(frozen=True)
class Split:
    """One official split: where its surveys are listed and how file names call it."""

    name: str
    metadata: str
    """Pattern of the table that lists the surveys."""
    token: str
    """Pattern of the split's name inside other file names."""
    labelled: bool = False
    """The table has a column of species."""
    presence_only: bool = False
    """A row without a species tells nothing; of plots, it is a plot on which none grew."""
    labels: str = ""
    """Pattern of a separate table of labels."""
    subset: str = ""
    """Value of the ``subset`` column that selects the rows of this split."""
    same_survey: tuple[str, ...] = ()
    """Columns whose rows form one survey, where every row has an id of its own."""


@dataclass(frozen=True)
class ValueRange:
    """The possible values of the columns that match ``columns``; everything else is masked."""

    columns: str
    low: float
    high: float
    units: str
    categorical: bool = False
    fills: tuple[float, ...] = ()
    """Impossible values that lie inside the range."""

    def matches(self, name: str) -> bool:
        """Return whether a column is one of these."""
        return re.fullmatch(self.columns, normalise(name)) is not None


LARGEST = 1e38
"""Rasters of floats have their least number, -3.4e38, where they have no data."""
USUAL_FILLS = (-9999.0, -99999.0, -999999.0, -32768.0, -2147483648.0)
"""What rasters and spreadsheets hold where there is no data."""
ANY_VALUE = ValueRange(".*", -LARGEST, LARGEST, "", fills=USUAL_FILLS)
"""Of variables that no release has."""


@dataclass(frozen=True)
class CovariateLayout:
    """One group of covariates: its tables and the possible values of its columns."""

    group: str
    table: str
    """Pattern of their paths."""
    ranges: tuple[ValueRange, ...]

    def range_of(self, name: str) -> ValueRange | None:
        """Return the possible values of a column, or None if it is none of the group."""
        return next((rule for rule in self.ranges if rule.matches(name)), None)


@dataclass(frozen=True)
class SeriesLayout:
    """One kind of time series, as one table per band, one table of all, or one cube per survey."""

    modality: str
    channel_names: tuple[str, ...]
    num_years: int
    seasons_per_year: int
    table: str
    column: str
    """Name of a value's column, with ``{channel}``, ``{year}`` and ``{season}`` (from 1)."""
    files: str
    axes: tuple[int, int, int]
    """Transposition of a file's cube to (channel, year, season)."""
    dtype: str
    fill: int
    valid: tuple[tuple[float, float], ...]
    """Lowest and highest possible value, one pair for each channel."""
    units: str
    first_year: int = 2000

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, years, seasons."""
        return len(self.channel_names), self.num_years, self.seasons_per_year

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Shape of the cube in a file, before transposition."""
        return tuple(int(self.shape[axis]) for axis in np.argsort(self.axes))

    def column_names(self, channel: str) -> list[str]:
        """Return the names of a channel's columns, year by year and season by season."""
        years = range(self.first_year, self.first_year + self.num_years)
        seasons = range(1, self.seasons_per_year + 1)
        return [self.column.format(channel=channel, year=y, season=s) for y in years for s in seasons]


@dataclass(frozen=True)
class PatchLayout:
    """One kind of image patch: one file per survey for each of ``parts``."""

    kind: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    """(pattern, channel names) of each file of a patch."""
    size: int
    dtype: str
    fill: int | None
    units: str


@dataclass(frozen=True)
class Layout:
    """One official release."""

    name: str
    title: str
    splits: tuple[Split, ...]
    columns: Mapping[str, tuple[str, ...]]
    covariates: tuple[CovariateLayout, ...] = ()
    series: tuple[SeriesLayout, ...] = ()
    patches: tuple[PatchLayout, ...] = ()
    max_species_id: int | None = None
    last_year: int | None = None
    """Year of publication: no record can be later."""
    extent: Mapping[str, float] | None = field(
        default_factory=lambda: {"west": -32.26, "south": 26.63, "east": 35.59, "north": 72.18}
    )
    """west, south, east, north in degrees; None if nobody knows."""


# ---- columns of the metadata, by what they mean ----------------------------------------------------------

COLUMNS = {
    "survey_id": ("surveyId",),
    "lon": ("lon", "longitude"),
    "lat": ("lat", "latitude"),
    "year": ("year",),
    "month": ("month",),
    "day": ("day",),
    "date": ("date",),
    "country": ("country",),
    "region": ("region",),
    "publisher": ("publisher",),
    "taxon_rank": ("taxonRank",),
    "area_m2": ("areaInM2",),
    "uncertainty_m": ("geoUncertaintyInM",),
    "species_id": ("speciesId",),
    "subset": ("subset",),
    "occurrence_status": ("occurrenceStatus",),
    "count": ("individualCount",),
    "basis": ("basisOfRecord",),
    "establishment": ("establishmentMeans",),
    "degree": ("degreeOfEstablishment",),
}
COLUMNS_23 = COLUMNS | {
    "survey_id": ("glcID", "Id"),
    "series_id": ("timeSerieID",),
    "patch_id": ("patchID",),
    "publisher": ("datasetName",),
}

# ---- covariates ------------------------------------------------------------------------------------------
# CHELSA keeps 65535 for nodata. A pressure of the human footprint is 0..10, their sum HFP 0..50. The fills
# of the footprint rasters (127, 255, 2147483647, -3.4e38) and their 2 x 2 bilinear mixtures all lie outside
# these ranges, but for 127 / 4 = 31.75 in HFP. Every HFP met in real files is a whole number (the sum was
# sampled, not interpolated; at sea it is empty), so 31.75 is a fill there; other fractions are let through.

_CLASS = "class"
_MODIS_CLASSES = ((1, 17), (2, 15), (3, 10), (4, 8), (5, 11), (9, 43), (10, 40), (11, 51), (12, 10), (13, 2))

BIOCLIM = CovariateLayout(
    "bioclim",
    r"(^|[/-])({split})-bioclimatic(-average)?\.csv$",
    (
        ValueRange(r"bio(1|5|6|8|9|10|11)", 2000, 3500, "K x 10"),
        ValueRange(r"bio(2|7)", 0, 1000, "K x 10"),
        ValueRange(r"bio3", 0, 1000, "ratio of Bio2 to Bio7"),
        ValueRange(r"bio4", 0, 30000, "K x 100"),
        ValueRange(r"bio15", 0, 5000, "% x 10"),
        ValueRange(r"bio(12|13|14|16|17|18|19)", 0, 65534, "mm x 10"),
    ),
)
ELEVATION = CovariateLayout(
    "elevation", r"(^|[/-])({split})-elevation\.csv$", (ValueRange("elevation", -500, 9000, "m"),)
)
LAND_COVER = CovariateLayout(
    "landcover",
    r"(^|[/-])({split})-land-?cover\.csv$",
    (
        ValueRange("landcover", 0, 17, _CLASS, categorical=True),
        *(ValueRange(f"landcover-{n}", 0, high, _CLASS, categorical=True) for n, high in _MODIS_CLASSES),
        ValueRange("landcover-[678]", 0, 100, "%"),
    ),
)
HUMAN_FOOTPRINT = CovariateLayout(
    "human_footprint",
    r"(^|[/-])({split})-human-?footprint\.csv$",
    (
        ValueRange(r"humanfootprint-hfp\d+", 0, 50, "human footprint 0..50", fills=(31.75,)),
        ValueRange(
            r"humanfootprint-((built|croplands|lights|navwater|pasture|popdensity)\d{4}|railways|roads)",
            0,
            10,
            "pressure 0..10",
        ),
        ValueRange(r"humanfootprint-.*", 0, 1e6, "OpenStreetMap layer"),
    ),
)
SOIL = CovariateLayout(
    "soil",
    r"(^|[/-])({split})-soil-?grids\.csv$",
    (
        ValueRange("soilgrid-bdod", 1, 300, "cg/cm3"),
        ValueRange("soilgrid-cec", 0, 2000, "mmol/kg"),
        ValueRange("soilgrid-cfvo", 0, 1000, "cm3/dm3"),
        ValueRange("soilgrid-(clay|sand|silt)", 0, 1000, "g/kg"),
        ValueRange("soilgrid-nitrogen", 0, 10000, "cg/kg"),
        ValueRange("soilgrid-phh2o", 20, 120, "pH x 10"),
        ValueRange("soilgrid-soc", 0, 10000, "dg/kg"),
    ),
)
COVARIATES = (BIOCLIM, ELEVATION, LAND_COVER, HUMAN_FOOTPRINT, SOIL)

# ---- time series -----------------------------------------------------------------------------------------
# Landsat reaches 254 in real files and could reach 255, so its fill lies outside uint8. CHELSA is uint16 with
# 65535 for nodata, so that value can serve as the fill.

_SPLIT = r"(?<![a-z0-9])({split})(?![a-z0-9])"

LANDSAT = SeriesLayout(
    modality="landsat",
    channel_names=("red", "green", "blue", "nir", "swir1", "swir2"),
    num_years=21,
    seasons_per_year=4,
    table=r"(^|[/-])({split})-landsat-time-series-{channel}\.csv$",
    column="{year}_{season}",
    files=rf"(?=.*{_SPLIT})(?=.*landsat).*\.pt$",
    axes=(0, 2, 1),
    dtype="int16",
    fill=-1,
    valid=((0, 255),) * 6,
    units="surface reflectance scaled to 0..255",
)
CLIMATE = SeriesLayout(
    modality="climate",
    channel_names=("pr", "tas", "tasmax", "tasmin"),
    num_years=19,
    seasons_per_year=12,
    table=r"(^|[/-])({split})-bioclimatic-(monthly|time-series)\.csv$",
    column="Bio-{channel}_{season:02d}_{year}",
    files=rf"(?=.*{_SPLIT})(?=.*bioclim).*\.pt$",
    axes=(0, 1, 2),
    dtype="uint16",
    fill=65535,
    valid=((0, 65534), (1800, 3500), (1800, 3500), (1800, 3500)),
    units="pr kg m-2 month-1 x 100; tas, tasmax, tasmin K x 10",
)

# ---- patches ---------------------------------------------------------------------------------------------

JPEG = PatchLayout(
    kind="jpeg",
    parts=(
        (rf"(?=.*{_SPLIT})(?=.*rgb).*\.jpe?g$", ("red", "green", "blue")),
        (rf"(?=.*{_SPLIT})(?=.*nir).*\.jpe?g$", ("nir",)),
    ),
    size=128,
    dtype="uint8",
    fill=None,
    units="(reflectance / 10000) ** (1 / 2.5) x 255",
)
TIFF = PatchLayout(
    kind="tiff",
    parts=((rf"(?=.*{_SPLIT})(?=.*patches).*\.tiff?$", ("red", "green", "blue", "nir")),),
    size=64,
    dtype="int16",
    fill=-1,
    units="reflectance x 10000",
)

# ---- the releases ----------------------------------------------------------------------------------------


def _splits(prefix: str) -> tuple[Split, ...]:
    """Return the splits of GLC24 and GLC25, whose names differ by a prefix only."""
    return (
        Split("train", rf"(^|/){prefix}pa-metadata-train\.csv$", "pa-train", labelled=True),
        Split("test", rf"(^|/){prefix}pa-metadata-test\.csv$", "pa-test"),
        Split("po", rf"(^|/){prefix}po-metadata-train\.csv$", "po-train", labelled=True, presence_only=True),
    )


def _test_split(name: str) -> Split:
    """Return a test split of GeoPlant 2026; some of its tables hold all tests and are called ``PA-test``."""
    return Split(
        f"test_{name}",
        rf"(^|/)pa-metadata-test-{name}\.csv$",
        rf"pa-test-{name}|pa-test(?!-(iid|ood|glc25))",
        labels=rf"(^|/)test-labels-{name}\.csv$",
    )


GLC24 = Layout(
    name="glc24",
    title="GeoLifeCLEF 2024",
    splits=_splits("glc24-"),
    columns=COLUMNS,
    covariates=COVARIATES,
    series=(LANDSAT, CLIMATE),
    patches=(JPEG, TIFF),
    max_species_id=11254,
    last_year=2024,
)
GLC25 = replace(
    GLC24, name="glc25", title="GeoLifeCLEF 2025", splits=_splits("glc25-"), patches=(TIFF, JPEG), last_year=2025
)
GLC25_SAMPLE = replace(
    GLC25,
    name="glc25-sample",
    title="GeoLifeCLEF 2025, sample",
    splits=(
        Split("train", r"^metadata\.csv$", "pa-train", labelled=True, subset="train"),
        Split("test", r"^metadata\.csv$", "pa-test", subset="test"),
    ),
)
GEOPLANT26 = replace(
    GLC24,
    name="geoplant26",
    title="GeoPlant 2026",
    last_year=2026,
    splits=(
        Split("train", r"(^|/)pa-metadata-train\.csv$", "pa-train", labelled=True),
        _test_split("iid"),
        _test_split("ood"),
        _test_split("glc25"),
        Split("po", r"(^|/)po-metadata-train\.csv$", "po-train", labelled=True, presence_only=True),
    ),
)
GLC23 = Layout(
    name="glc23",
    title="GeoLifeCLEF 2023",
    last_year=2023,
    splits=(
        Split(
            "train",
            r"(^|/)presences-absences-train(-sample)?\.csv$",
            "",
            labelled=True,
            same_survey=("lon", "lat", "patchID", "year", "dayOfYear"),
        ),
        Split("test", r"(^|/)test-blind\.csv$", ""),
        Split("po", r"(^|/)presences-only-train(-sample)?\.csv$", "", labelled=True, presence_only=True),
    ),
    columns=COLUMNS_23,
    series=(replace(LANDSAT, table=r"(^|/)time-series-{channel}\.csv$"),),
    patches=(
        replace(
            JPEG,
            parts=((r"(^|/)rgb/.*\.jpe?g$", ("red", "green", "blue")), (r"(^|/)nir/.*\.jpe?g$", ("nir",))),
        ),
    ),
)
LAYOUTS = {layout.name: layout for layout in (GLC24, GLC25, GLC25_SAMPLE, GEOPLANT26, GLC23)}
