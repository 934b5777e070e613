"""The layers of a study's rasters: what each is called, where it lies, and what its numbers mean."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader

from releve.errors import RasterError, nearest
from releve.ingest.config import RasterConfig
from releve.rasters.classes import MOST_SHARES, Classes, classes_in_tables, look_like_classes, read_tables
from releve.rasters.files import find_rasters, open_raster, variable_of, without_grids
from releve.rasters.grid import Grid, is_geographic
from releve.rasters.layer import Layer, to_numbers

GENERIC = re.compile(r"(layer|band)[ _]?\d*", re.IGNORECASE)
"""Descriptions of bands that say nothing."""


def open_layers(rasters: Sequence[RasterConfig], root: Path, *, crs: str | None = None) -> tuple[Layer, ...]:
    """Return the layers that a study's rasters hold, in the order of the descriptions, files and bands.

    Parameters
    ----------
    rasters
        Their descriptions.
    root
        Folder that files are named from.
    crs
        Of rasters that name none themselves.

    Raises
    ------
    RasterError
        If a raster is missing or cannot be read, does not say where it lies, or two layers have one name.
    """
    layers: list[Layer] = []
    with without_grids():
        for config in rasters:
            layers += _layers_of(config, root, crs)
    first: dict[str, Layer] = {}
    for layer in layers:
        for column in layer.columns:
            if column in first:
                other = first[column]
                raise RasterError(
                    f"two layers are called {column!r}: band {other.band} of {other.source} and band {layer.band} of "
                    f"{layer.source}",
                    expected="a name of its own for each",
                    action="Give names = [...] in study.toml, or leave one of them out",
                )
            first[column] = layer
    return tuple(layers)


def _layers_of(config: RasterConfig, root: Path, crs: str | None) -> list[Layer]:
    """Return the layers of one description."""
    found: list[Layer] = []
    for source in find_rasters(config.file, root):
        with open_raster(source) as dataset:
            _refuse_containers(dataset, source)
            grid = grid_of(dataset, source, given=config.crs, otherwise=crs)
            found += [_layer(dataset, source, band, grid, config) for band in _bands(dataset, source, config.bands)]
    named = _with_names(found, config)
    if isinstance(config.categorical, tuple):
        _refuse_unknown(config.categorical, [layer.name for layer in named])
    if config.categorical is False and not config.derive:
        return named
    result: list[Layer] = []
    for source, layers in itertools.groupby(named, lambda layer: layer.source):
        with open_raster(source) as dataset:
            tables = read_tables(dataset)
            for layer in layers:
                layer = _with_classes(layer, config, dataset, tables[layer.band - 1])
                result += [layer, *(_derived(layer, what) for what in config.derive)]
    return result


def _derived(layer: Layer, what: str) -> Layer:
    units = {"slope": "degrees", "roughness": layer.units}.get(what, "")
    return replace(layer, name=f"{layer.name}_{what}", derived=what, derived_from=layer.name, units=units)


def grid_of(dataset: DatasetReader, source: str, *, given: str | None, otherwise: str | None) -> Grid:
    """Return the grid of an open raster.

    Parameters
    ----------
    dataset, source
        The raster, and what it was opened by.
    given
        CRS in place of its own.
    otherwise
        CRS where it has none.

    Raises
    ------
    RasterError
        If it has no CRS and none is given, the CRS is none or not that of its corners, or there is no transform.
    """
    if dataset.transform.is_identity or dataset.transform.is_degenerate:
        raise RasterError(
            f"{source} does not say where its cells lie (no transform)",
            expected="coordinates of its corner and the size of a cell",
            action="Georeference it, or put a world file (.tfw) beside it",
        )
    west, south, east, north = dataset.bounds
    south, north = min(south, north), max(south, north)
    crs = given or (dataset.crs.to_string() if dataset.crs else otherwise)
    if not crs:
        degrees = -180 <= west < east <= 360 and -90 <= south < north <= 90
        hint = 'EPSG:4326" if these are degrees' if degrees else 'EPSG:32632" for UTM zone 32 north'
        raise RasterError(
            f"{source} has no CRS; its corners are {west:g}, {south:g} and {east:g}, {north:g}",
            expected="what its coordinates mean",
            action=f'Give crs = "EPSG:..." of this raster in study.toml, such as "{hint}',
        )
    try:
        crs = CRS.from_user_input(crs).to_string() if given or not dataset.crs else crs
    except CRSError as error:
        raise RasterError(f"{crs!r} is no CRS", expected='one such as "EPSG:25832"') from error
    if is_geographic(crs) and not (-361 <= west < east <= 721 and -91 <= south < north <= 91):
        raise RasterError(
            f"the corners of {source}, {west:g}, {south:g} and {east:g}, {north:g}, are no degrees, as {crs} has them",
            expected="coordinates of its CRS",
            action='Give crs = "EPSG:..." of this raster in study.toml',
        )
    block_height, block_width = dataset.block_shapes[0]
    return Grid(crs, tuple(dataset.transform)[:6], dataset.height, dataset.width, block_height, block_width)


def _refuse_containers(dataset: DatasetReader, source: str) -> None:
    """Refuse a file that holds several rasters and no bands of its own, such as a NetCDF of several variables."""
    if dataset.count == 0:
        inside = [variable_of(name) for name in dataset.subdatasets]
        kind = dataset.driver.upper()
        raise RasterError(
            f"{source} holds {len(inside)} rasters: {inside[:20]}" if inside else f"{source} holds no raster",
            expected="one of them",
            action=f"""Name it: file = '{kind}:"{Path(source).name}":{inside[0]}'""" if inside else "",
        )


def _bands(dataset: DatasetReader, source: str, wanted: tuple[int, ...]) -> tuple[int, ...]:
    beyond = [band for band in wanted if not 1 <= band <= dataset.count]
    if beyond:
        raise RasterError(f"{source} has no band {beyond[0]}", expected=f"1 to {dataset.count}, as it has")
    return wanted or tuple(dataset.indexes)


def _layer(dataset: DatasetReader, source: str, band: int, grid: Grid, config: RasterConfig) -> Layer:
    """Return a band as a layer, named by its description; its classes are looked for later."""
    at = band - 1
    if dataset.dtypes[at].startswith("complex"):
        raise RasterError(f"{source} holds complex numbers", expected="plain ones, such as their magnitude")
    described = (dataset.descriptions[at] or "").strip()
    nodata = dataset.nodatavals[at] if config.nodata is None else config.nodata
    scale = dataset.scales[at] if config.scale is None else config.scale
    offset = dataset.offsets[at] if config.offset is None else config.offset
    return Layer(
        name="" if GENERIC.fullmatch(described) else described,
        source=source,
        band=band,
        grid=grid,
        dtype=dataset.dtypes[at],
        nodata=nodata,
        masked=MaskFlags.per_dataset in dataset.mask_flag_enums[at],
        scale=scale,
        offset=offset,
        units=(dataset.units[at] or "").strip(),
        method=config.method,
        radius_m=config.radius_m,
        group=config.group,
    )


def _with_names(layers: list[Layer], config: RasterConfig) -> list[Layer]:
    """Return the layers by the names that are given, their bands' or their files'."""
    if config.names:
        if len(config.names) != len(layers):
            raise RasterError(
                f"names holds {len(config.names)} names for the {len(layers)} layers of {config.file}",
                expected="a name for each band of each file, in this order",
            )
        return [replace(layer, name=name) for layer, name in zip(layers, config.names, strict=True)]
    per_file: dict[str, int] = {}
    for layer in layers:
        per_file[layer.source] = per_file.get(layer.source, 0) + 1
    named = []
    for layer in layers:
        stem = _stem(layer.source)
        own = stem if per_file[layer.source] == 1 else f"{stem}_{layer.band}"
        named.append(replace(layer, name=layer.name or own))
    return named


def _stem(source: str) -> str:
    """Return what a raster is called where nothing in it says so.

    Examples
    --------
    >>> _stem("/data/Bio 1.tif"), _stem('NETCDF:"/data/cube.nc":tas'), _stem("https://example.org/bio1.tif?key=1")
    ('Bio 1', 'tas', 'bio1')
    """
    if source.count('"') == 2 and not source.endswith('"'):
        return variable_of(source)
    return Path(source.partition("?")[0] if "://" in source else source).stem


def _refuse_unknown(wanted: tuple[str, ...], names: list[str]) -> None:
    for name in wanted:
        if name not in names:
            raise RasterError(f"categorical names {name!r}, which is no layer", action=nearest(name, names))


def _with_classes(layer: Layer, config: RasterConfig, dataset: DatasetReader, tables: ElementTree.Element) -> Layer:
    """Return a layer that knows whether its numbers are classes, and is read accordingly."""
    declared = layer.name in config.categorical if isinstance(config.categorical, tuple) else config.categorical
    found_by, classes = classes_in_tables(tables)
    if declared or (declared is None and layer.method == "share"):
        found_by = "declared" if declared else "share is of classes"
    elif declared is False or config.derive or (not found_by and (layer.scale, layer.offset) != (1.0, 0.0)):
        return layer
    elif not found_by:
        found_by, classes = look_like_classes(dataset, layer.band, layer.fills)
    if not found_by:
        return layer
    layer = replace(layer, categorical=True, found_by=found_by, classes=classes)
    if layer.method == "share":
        return replace(layer, classes=_all_classes(layer, dataset))
    return replace(layer, method="nearest", radius_m=None)  # between two codes there is nothing


def _all_classes(layer: Layer, dataset: DatasetReader) -> Classes:
    """Return every class of a layer, so that its columns do not depend on the places."""
    names = dict(layer.classes)
    codes: set[float] = set()
    for _, window in dataset.block_windows(layer.band):
        values = to_numbers(np.unique(dataset.read(layer.band, window=window)), layer)
        codes |= set(values[np.isfinite(values)].tolist())
        if len(codes) > MOST_SHARES or any(not code.is_integer() for code in codes):
            raise RasterError(
                f"{layer.name} ({layer.source}) holds numbers such as {sorted(codes)[:5]}",
                expected=f"at most {MOST_SHARES} classes in whole numbers, of which method = 'share' is the share",
                action="Take method = 'mean' for a quantity",
            )
    return tuple((int(code), names.get(int(code), "")) for code in sorted(codes))
