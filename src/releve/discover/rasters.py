"""Rasters looked at by their headers and a coarse reading: grids, names, classes, elevation, series, imagery."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from releve.ingest.names import fold
from releve.rasters.classes import MOST_CLASSES, classes_in_tables, look_like_classes, read_tables
from releve.rasters.layer import fills_of
from releve.rasters.layers import GENERIC

CLASS_WORDS = re.compile(
    r"categor|substrat|land.?cover|land.?use|lulc|corine|biome|soil.?type|soil.?class|classes|geolog|lithol|ecoregion|"
    r"bedrock|vegetation.?type|habitat.?type|(?:^|[^a-z])(?:lc|clc|class|zones?)(?:[^a-z]|$)",
    re.IGNORECASE,
)
ELEVATION = frozenset(
    {"dem", "dtm", "elev", "elevation", "alt", "altitude", "terdem", "mnt", "srtm", "height", "hoehe", "altitud", "mdt"}
)
IMAGERY = (("red", "green", "blue", "nir"), ("b02", "b03", "b04", "b08"), ("b2", "b3", "b4", "b8"))
DATED = re.compile(r"^(?P<channel>.*?)[_.-]?(?P<year>(?:19|20)\d\d)[_.-](?:m|q)?(?P<season>\d{1,2})$", re.IGNORECASE)
COARSE = 512
"""Cells along a side of the coarse reading by which classes are found."""
CELLS_A_CLASS = 5
"""Whole numbers of which each is met less often are no classes."""
MAX_LOOKED = 400
"""Layers whose values are looked at; of more only the headers are read."""
MAX_BANDS = 60
"""Files with more bands are cubes, not layers."""


@dataclass(frozen=True)
class RasterLayer:
    """A band of a file."""

    path: str
    """As it is to be opened: a file, or a part of one such as ``NETCDF:"a.nc":tas``."""
    file: Path
    band: int
    num_bands: int
    """Of the file."""
    name: str
    shape: tuple[int, int]
    transform: tuple[float, ...]
    crs: str | None
    nodata: float | None
    scale: float
    offset: float
    dtype: str
    why_classes: str | None
    """Why its values are taken for classes; empty where they are not, None where they were not looked at."""
    binary: bool = False
    """Whether it holds 0 and 1, or one of them, and nothing else."""
    constant: bool = False
    """Whether it holds one number everywhere."""
    driver: str = ""
    variable: str = ""
    """Of a file that holds several rasters."""

    @property
    def is_elevation(self) -> bool:
        """Return whether its name is that of an elevation."""
        words = set(re.findall(r"[^\W\d_]+", self.name.casefold()))
        return bool(words & ELEVATION) and not words & {"slope", "aspect", "zone"}


@dataclass(frozen=True)
class RasterGroup:
    """Rasters of one folder on one grid."""

    kind: str
    """``layers``, ``series`` (dated rasters), ``imagery`` (bands of a picture)."""
    layers: tuple[RasterLayer, ...]
    pattern: str | None
    """File name with ``*`` that stands for all its files and no others."""
    channels: tuple[str, ...] = ()
    years: tuple[int, int] = (0, 0)
    seasons: int = 0
    template: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files, each once."""
        return tuple(dict.fromkeys(layer.file for layer in self.layers))

    @property
    def crs(self) -> str | None:
        """Return the projection of all of them."""
        return self.layers[0].crs

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Return west, south, east, north in its projection."""
        a, _, west, _, e, north = self.layers[0].transform[:6]
        rows, columns = self.layers[0].shape
        return west, north + e * rows, west + a * columns, north


def look_at_rasters(files: Sequence[Path]) -> tuple[list[RasterGroup], list[tuple[Path, str]]]:
    """Return rasters in groups of one folder and grid, and those left out with the reason.

    Parameters
    ----------
    files
        Rasters, or folders that are one.
    """
    found: list[RasterLayer] = []
    left_out: list[tuple[Path, str]] = []
    num_read = 0
    for file in files:
        try:
            layers = _open(file, look_closely=num_read < MAX_LOOKED)
        except (RasterioError, ValueError) as error:
            left_out.append((file, f"cannot be read as a raster: {str(error).splitlines()[0]}"))
            continue
        num_read += len(layers)
        if not layers:
            why = f"a cube of more than {MAX_BANDS} bands: a series over time is described by [[study.series]]"
            left_out.append((file, why))
        found += layers
    groups: dict[tuple[Any, ...], list[RasterLayer]] = {}
    for layer in found:
        # A picture has a group of its own, also where layers lie on its grid.
        grid = (layer.file.parent, layer.shape, tuple(round(value, 9) for value in layer.transform), layer.crs)
        groups.setdefault((*grid, _dated(layer) is not None), []).append(layer)
    there: dict[Path, list[Path]] = {}
    for file in files:
        there.setdefault(file.parent, []).append(file)
    made = []
    for layers in groups.values():
        made += _split(layers, there[layers[0].file.parent])
    return made, left_out


def _split(layers: list[RasterLayer], there: list[Path]) -> list[RasterGroup]:
    """Return the groups that layers on one grid form: a series, pictures, elevations, and the rest."""
    if _dated(layers[0]) is not None:
        group = _series(layers)
        return [group] if group else [RasterGroup("layers", tuple(layers), _pattern(layers, there))]
    by_file: dict[Path, list[RasterLayer]] = {}
    for layer in layers:
        by_file.setdefault(layer.file, []).append(layer)
    pictures = [bands for bands in by_file.values() if _is_picture(bands)]
    rest = [layer for layer in layers if not any(layer in bands for bands in pictures)]
    groups = [RasterGroup("imagery", tuple(bands), None) for bands in pictures]
    heights = [layer for layer in rest if layer.is_elevation and (len(by_file[layer.file]) == 1 or len(by_file) == 1)]
    heights = heights if len(rest) > 1 else []
    rest = [layer for layer in rest if layer not in heights]
    groups += [RasterGroup("layers", (layer,), None) for layer in heights]
    return ([RasterGroup("layers", tuple(rest), _pattern(rest, there))] if rest else []) + groups


def _open(file: Path, *, look_closely: bool) -> list[RasterLayer]:
    """Return the bands of a file; none for a cube.

    Raises
    ------
    ValueError
        If the file has no place on the Earth.
    """
    target = str(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(target) as source:
            parts = list(source.subdatasets)
            if not parts:
                return _bands(source, target, file, look_closely)
        found = []
        for part in parts:
            with rasterio.open(part) as source:
                if source.width > 1 and source.height > 1 and not source.transform.is_identity:
                    found += _bands(source, part, file, look_closely, part.rpartition(":")[2].strip("/"))
        return found


def _bands(source: Any, path: str, file: Path, look_closely: bool, variable: str = "") -> list[RasterLayer]:
    if source.transform.is_identity:
        raise ValueError("it has no place on the Earth (no transform, no world file)")
    if source.count > MAX_BANDS:
        return []
    stem = variable or (file.name if file.is_dir() else file.stem)
    tables = read_tables(source) if look_closely else []
    layers = []
    for band in range(1, source.count + 1):
        told = (source.descriptions[band - 1] or "").strip()
        name = "" if GENERIC.fullmatch(told) else told
        name = name or (stem if source.count == 1 else f"{stem}_{band}")
        values = _coarse(source, band) if look_closely else np.zeros(0)
        why = _why_classes(source, band, name, file, tables, np.unique(values), len(values)) if look_closely else None
        layers.append(
            RasterLayer(
                path=path,
                file=file,
                band=band,
                num_bands=source.count,
                name=name,
                shape=(source.height, source.width),
                transform=tuple(source.transform)[:6],
                crs=_crs_name(source.crs),
                nodata=source.nodatavals[band - 1],
                scale=source.scales[band - 1],
                offset=source.offsets[band - 1],
                dtype=source.dtypes[band - 1],
                why_classes=why,
                binary=len(values) > 0 and bool(np.isin(values, (0, 1)).all()),
                constant=len(values) > 0 and bool((values == values[0]).all()),
                driver=source.driver.upper() if variable else "",
                variable=variable,
            )
        )
    return layers


def _crs_name(crs: Any) -> str | None:
    if not crs:
        return None
    code = crs.to_epsg(confidence_threshold=70)
    return f"EPSG:{code}" if code else str(crs.to_string())


def _why_classes(
    source: Any,
    band: int,
    name: str,
    file: Path,
    tables: Sequence[Any],
    distinct: NDArray[np.float64],
    num_cells: int,
) -> str:
    """Return why the values of a band are classes, empty if they are not.

    They are if the file has a table of them, if its numbers look so, or if it holds few whole numbers and its name or
    its folder's is one of classes.
    """
    by_table, _ = classes_in_tables(tables[band - 1])
    if by_table:
        return f"by the file's {by_table}"
    if not len(distinct) or not np.all(distinct == np.floor(distinct)):
        return ""
    called = next((text for text in (name, file.stem, file.parent.name) if CLASS_WORDS.search(text)), "")
    if called and 2 <= len(distinct) <= MOST_CLASSES and distinct[0] >= 0:
        return f"few different whole numbers, and called {called}"
    if fold(name) in ELEVATION or num_cells < CELLS_A_CLASS * len(distinct):
        return ""
    return look_like_classes(source, band, fills_of(source.nodatavals[band - 1]))[0]


def _coarse(source: Any, band: int) -> NDArray[np.float64]:
    """Return the values of every n-th cell as they are in the file, without missing ones."""
    step = max(source.height // COARSE, source.width // COARSE, 1)
    shape = (max(source.height // step, 1), max(source.width // step, 1))
    values = source.read(band, out_shape=shape, masked=True).compressed().astype(np.float64)
    return values[np.isfinite(values) & (np.abs(values) < 1e30)]


# ---- groups ----------------------------------------------------------------------------------------------


def _pattern(layers: Sequence[RasterLayer], there: Iterable[Path]) -> str | None:
    """Return ``*.asc`` where four or more files are all of that ending in their folder."""
    files = {layer.file for layer in layers}
    suffixes = {file.suffix for file in files}
    if len(files) < 4 or len(suffixes) != 1:
        return None
    suffix = suffixes.pop()
    return f"*{suffix}" if suffix and files == {file for file in there if file.suffix == suffix} else None


def _dated(layer: RasterLayer) -> re.Match[str] | None:
    match = DATED.match(layer.file.stem) if layer.band == 1 else None
    return match if match and 1 <= int(match["season"]) <= 12 else None


def _series(layers: Sequence[RasterLayer]) -> RasterGroup | None:
    """Return dated rasters as one series if they are several years or seasons of one or several channels."""
    dated = [match for layer in layers if (match := _dated(layer)) is not None]
    years = [int(match["year"]) for match in dated]
    seasons = [int(match["season"]) for match in dated]
    channels = tuple(dict.fromkeys(match["channel"] for match in dated))
    if len(dated) < 4 or len(set(seasons)) < 2 or not all(channels):
        return None
    first = dated[0]
    stem = layers[0].file.name
    wide = all(len(match["season"]) == 2 for match in dated)
    season = "{season:02d}" if wide else "{season}"
    template = f"{{channel}}{stem[first.end('channel') : first.start('year')]}{{year}}"
    template += f"{stem[first.end('year') : first.start('season')]}{season}{layers[0].file.suffix}"
    return RasterGroup("series", tuple(layers), None, channels, (min(years), max(years)), max(seasons), template)


def _is_picture(bands: Sequence[RasterLayer]) -> bool:
    """Return whether the bands of a file are those of a picture, by their names."""
    if len(bands) not in (3, 4):
        return False
    names = {fold(layer.name) for layer in bands}
    return any(set(known[:3]) <= names for known in IMAGERY)


def value_at(layer: RasterLayer, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the value of the cell that holds each place, NaN outside and where there is none.

    Parameters
    ----------
    layer
        A band.
    points
        ``x, y`` in its projection.
    """
    with rasterio.open(layer.path) as source:
        values = np.array([value[0] for value in source.sample(points, indexes=layer.band, masked=False)], dtype=float)
        west, south, east, north = source.bounds
    inside = (points[:, 0] >= west) & (points[:, 0] <= east) & (points[:, 1] >= south) & (points[:, 1] <= north)
    missing = ~inside | ~np.isfinite(values) | (np.abs(values) > 1e30)
    if layer.nodata is not None:
        missing |= values == layer.nodata
    return np.where(missing, np.nan, values * layer.scale + layer.offset)


def names_seen(groups: Iterable[RasterGroup]) -> Mapping[str, list[RasterLayer]]:
    """Return the layers by name; several of one name cannot all be read under it."""
    found: dict[str, list[RasterLayer]] = {}
    for group in groups:
        if group.kind == "layers":
            for layer in group.layers:
                found.setdefault(layer.name, []).append(layer)
    return found
