"""Which projection coordinates are in: said by a file, shared with a raster, hinted at by a text, or to be given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from releve.discover.kinds import Table
from releve.discover.rasters import RasterGroup
from releve.ingest.names import fold

DEGREES = "EPSG:4326"
NATIONAL = {
    "EPSG:3035": "ETRS89-LAEA Europe",
    "EPSG:25832": "ETRS89 / UTM 32N",
    "EPSG:25833": "ETRS89 / UTM 33N",
    "EPSG:2154": "Lambert-93, France",
    "EPSG:27700": "British National Grid",
    "EPSG:28992": "RD New, Netherlands",
    "EPSG:31370": "Belgian Lambert 72",
    "EPSG:2056": "LV95, Switzerland",
    "EPSG:21781": "LV03, Switzerland",
    "EPSG:31287": "MGI Lambert, Austria",
    "EPSG:3006": "SWEREF99 TM, Sweden",
    "EPSG:3067": "TM35FIN, Finland",
    "EPSG:2180": "Poland CS92",
    "EPSG:3301": "Estonian 1997",
    "EPSG:25830": "ETRS89 / UTM 30N, Spain",
    "EPSG:3763": "PT-TM06, Portugal",
    "EPSG:2193": "NZTM2000, New Zealand",
    "EPSG:3577": "Australian Albers",
    "EPSG:5070": "Conus Albers, United States",
    "EPSG:3347": "Statistics Canada Lambert",
    "EPSG:5880": "Brazil Polyconic",
}
"""Projections that tables of plots are often in, proposed where the numbers lie within their area."""
CRS_COLUMNS = ("crs", "epsg", "srid", "srs", "geodeticdatum", "datum", "coordinatesystem", "projection", "verbatimsrs")
INSIDE = 0.95
"""Least share of the places that lie within a raster which is taken for theirs."""
MAX_HINTS = 6


@dataclass(frozen=True)
class Hint:
    """A projection that coordinates may be in."""

    crs: str
    why: str


def crs_of_column(table: Table) -> Hint | None:
    """Return the projection that a column of a table names, the same in every row."""
    for name, profile in table.profiles.items():
        if fold(name) in CRS_COLUMNS and profile.num_distinct == 1 and profile.distinct:
            told = profile.distinct[0]
            try:
                crs = CRS.from_user_input(int(told) if told.isdigit() else told)
            except CRSError:
                continue
            code = crs.to_epsg()
            return Hint(f"EPSG:{code}" if code else told, f"column {name} says {told!r} in every row")
    return None


def share_inside(points: NDArray[np.float64], group: RasterGroup, crs: str | None = None) -> float:
    """Return the share of places that lie within rasters, in their own numbers or from a projection to the rasters'."""
    known = points[np.isfinite(points).all(axis=1)]
    if not len(known):
        return 0.0
    if crs is not None and group.crs is not None and crs != group.crs:
        known = transform(known, crs, group.crs)
    west, south, east, north = group.bounds
    inside = (known[:, 0] >= west) & (known[:, 0] <= east) & (known[:, 1] >= south) & (known[:, 1] <= north)
    return float(np.mean(inside))


def transform(points: NDArray[np.float64], source: str, target: str) -> NDArray[np.float64]:
    """Return places in another projection; infinite where it has none of them.

    Raises
    ------
    CRSError
        If one of the projections is not known.
    """
    if source == target:
        return points
    x, y = Transformer.from_crs(source, target, always_xy=True).transform(points[:, 0], points[:, 1])
    return np.column_stack([x, y])


def crs_of_rasters(points: NDArray[np.float64], groups: Iterable[RasterGroup]) -> Hint | None:
    """Return the projection of the rasters that the numbers of places lie in, if these agree on one in metres."""
    found: dict[str, RasterGroup] = {}
    for group in groups:
        if group.crs and not CRS.from_user_input(group.crs).is_geographic and share_inside(points, group) >= INSIDE:
            found.setdefault(group.crs, group)
    if len(found) != 1:
        return None
    crs, group = next(iter(found.items()))
    return Hint(crs, f"that of {group.files[0].name}, in which {share_inside(points, group):.0%} of the places lie")


def hints_of_texts(documents: Sequence[Path]) -> list[Hint]:
    """Return the projections that a folder's texts speak of: ``EPSG:25832``, ``UTM 32N``, ``Lambert-93``."""
    found: dict[str, Hint] = {}
    for path in documents:
        text = path.read_text(encoding="utf-8", errors="replace")
        for match in re.finditer(r"EPSG[:\s]+(\d{4,6})\b", text, re.IGNORECASE):
            found.setdefault(f"EPSG:{match[1]}", Hint(f"EPSG:{match[1]}", f"{path.name} says {match[0]!r}"))
        for match in re.finditer(r"UTM[\s-]*(?:zone)?[\s-]*(\d{1,2})[\s-]*([NS])?\b", text, re.IGNORECASE):
            zone, south = int(match[1]), (match[2] or "N").upper() == "S"
            if 1 <= zone <= 60:
                said = f"{path.name} says {match[0].strip()!r}"
                if 28 <= zone <= 38 and not south:
                    found.setdefault(f"EPSG:{25800 + zone}", Hint(f"EPSG:{25800 + zone}", f"{said}, ETRS89"))
                code = f"EPSG:{(32700 if south else 32600) + zone}"
                found.setdefault(code, Hint(code, f"{said}, WGS 84"))
        for crs, name in NATIONAL.items():
            called = name.partition(",")[0]
            if "UTM" not in called and called.casefold() in text.casefold():
                found.setdefault(crs, Hint(crs, f"{path.name} speaks of {called}"))
    return list(found.values())


def hints_of_numbers(points: NDArray[np.float64], *, per_km: bool) -> list[Hint]:
    """Return the usual projections within whose area the places would lie, and where their middle would be."""
    known = points[np.isfinite(points).all(axis=1)] * (1000.0 if per_km else 1.0)
    if not len(known):
        return []
    ends = np.array([known.min(axis=0), np.median(known, axis=0), known.max(axis=0)])
    found = []
    for crs, name in NATIONAL.items():
        area = CRS.from_user_input(crs).area_of_use
        try:
            lonlat = transform(ends, crs, DEGREES)
        except ProjError:
            continue
        if area is None or not np.isfinite(lonlat).all():
            continue
        within = (lonlat[:, 0] >= area.west) & (lonlat[:, 0] <= area.east)
        within &= (lonlat[:, 1] >= area.south) & (lonlat[:, 1] <= area.north)
        if within.all():
            lon, lat = lonlat[1]
            found.append(Hint(crs, f"{name}: the middle of the places would be lon {lon:.2f}, lat {lat:.2f}"))
    return found[:MAX_HINTS]
