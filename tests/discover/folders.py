"""Small folders as people have them: tables written by hand, rasters of some cells."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import ArrayLike
from rasterio.transform import from_origin

from releve.discover.document import study_text
from releve.discover.study import look_through


def write(folder: Path, **files: str) -> Path:
    """Write tables, named by their stems, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, text in files.items():
        (folder / f"{stem}.csv").write_text(text, encoding="utf-8")
    return folder


def write_raster(
    path: Path,
    values: ArrayLike,
    *,
    crs: str | None = "EPSG:4326",
    west: float = 10.0,
    north: float = 50.0,
    cell: float = 0.1,
    names: tuple[str, ...] = (),
    **profile: Any,
) -> Path:
    """Write a raster of one or several bands, 10 to 11 degrees east and 49 to 50 north if it has 10 x 10 cells."""
    bands = np.asarray(values)
    bands = bands[None] if bands.ndim == 2 else bands
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name}
    grid = {"transform": from_origin(west, north, cell, cell), "crs": crs}
    with rasterio.open(path, "w", **shape, **grid, **profile) as target:
        target.write(bands)
        for band, name in enumerate(names, 1):
            target.set_band_description(band, name)
    return path


def places(num: int, *, seed: int = 0) -> list[tuple[float, float]]:
    """Return lon, lat within the rasters, with four decimals."""
    rng = np.random.default_rng(seed)
    return [
        (round(float(lon), 4), round(float(lat), 4))
        for lon, lat in zip(rng.uniform(10.05, 10.95, num), rng.uniform(49.05, 49.95, num), strict=True)
    ]


def long_plots(num: int = 12, *, extra: str = "") -> str:
    """Return a table of plots with three species each; ``extra`` is the head of a column of numbers."""
    rows = ["plot,lon,lat,species" + (f",{extra}" if extra else "")]
    for at, (lon, lat) in enumerate(places(num)):
        for species in ("Poa annua", "Abies alba", "Carex nigra"):
            rows.append(f"P{at},{lon},{lat},{species}" + (f",{at * 1.5}" if extra else ""))
    return "\n".join(rows) + "\n"


def study_of(folder: Path, out: Path | None = None) -> dict[str, Any]:
    """Return the study that is written for a folder, as a mapping."""
    return dict(tomllib.loads(study_text(look_through(folder), out or folder))["study"])


def write_workbook(path: Path, **sheets: list[list[str | float]]) -> None:
    """Write an Excel file, the least that is one: sheets by name, rows of text and numbers."""
    office = "http://schemas.openxmlformats.org"
    main, kinds = f"{office}/spreadsheetml/2006/main", f"{office}/officeDocument/2006/relationships"
    types = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    numbered = list(enumerate(sheets, 1))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{office}/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}.sheet.main+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/sheet{at}.xml" ContentType="{types}.worksheet+xml"/>'
            for at, _ in numbered
        )
        + "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{office}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{kinds}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{kinds}"><sheets>'
        + "".join(f'<sheet name="{escape(name)}" sheetId="{at}" r:id="r{at}"/>' for at, name in numbered)
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{office}/package/2006/relationships">'
        + "".join(
            f'<Relationship Id="r{at}" Type="{kinds}/worksheet" Target="worksheets/sheet{at}.xml"/>'
            for at, _ in numbered
        )
        + "</Relationships>",
    }
    for at, name in numbered:
        rows = "".join("<row>" + "".join(map(_cell, row)) + "</row>" for row in sheets[name])
        parts[f"xl/worksheets/sheet{at}.xml"] = f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'
    with zipfile.ZipFile(path, "w") as book:
        for part, text in parts.items():
            book.writestr(part, f'<?xml version="1.0" encoding="UTF-8"?>{text}')


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f"<c><v>{value}</v></c>"
