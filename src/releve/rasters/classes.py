"""Whether the numbers of a raster are classes: as a table in the file says, or as whole numbers look."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.windows import Window

MOST_CLASSES = 100
ROUGH = 0.5
"""A step between unlike neighbours is, of classes, about as large as one between any two cells, but of a quantity in
whole numbers much smaller. From this ratio on they are classes."""
MOST_SHARES = 255
"""Classes of which shares are wanted: each is a column."""
LOOK_CELLS = 256
"""Side of the nine windows that are looked at."""
Classes = tuple[tuple[int, str], ...]
"""Code and name, by code; the name is empty where nobody gave one."""
_VALUE, _NAME = ("0", "3", "5"), "2"
"""What GDAL's attribute tables call a column of values, and one of names."""


def read_tables(dataset: DatasetReader) -> list[ElementTree.Element]:
    """Return what GDAL knows of each band, as XML: rasterio does not hand on attribute tables and categories."""
    with tempfile.TemporaryDirectory() as folder:
        description = Path(folder) / "raster.vrt"
        rasterio.shutil.copy(dataset, description, driver="VRT")
        return ElementTree.fromstring(description.read_text(encoding="utf-8")).findall("VRTRasterBand")


def classes_in_tables(tables: ElementTree.Element) -> tuple[str, Classes]:
    """Return which table of a band names its classes (empty: none does), and the classes."""
    named = _attribute_classes(tables)
    if named:
        return "attribute table", named
    names = [item.text or "" for item in tables.iterfind("CategoryNames/Category")]
    if names:
        return "table of categories", tuple((code, name) for code, name in enumerate(names) if name)
    if tables.findtext("ColorInterp") == "Palette":
        return "colour table", ()
    return "", ()


def _attribute_classes(tables: ElementTree.Element) -> Classes:
    """Return codes and names of an attribute table that names its rows; one of a histogram names none."""
    table = tables.find("GDALRasterAttributeTable")
    fields = [] if table is None else table.findall("FieldDefn")
    usage = [field.findtext("Usage", "") for field in fields]
    title = [field.findtext("Name", "").casefold() for field in fields]
    kind = [field.findtext("Type", "") for field in fields]
    values = [at for at in range(len(fields)) if title[at] == "value" or usage[at] in _VALUE[1:]]
    values += [at for at in range(len(fields)) if title[at] in ("id", "code", "class", "gridcode") and kind[at] != "2"]
    names = [at for at in range(len(fields)) if usage[at] == _NAME] or [
        at for at in range(len(fields)) if kind[at] == "2"
    ]
    if table is None or not values or not names:
        return ()
    found = {}
    for row in table.findall("Row"):
        cells = [cell.text or "" for cell in row.findall("F")]
        code = float(cells[values[0]] or "nan")
        if code.is_integer() and cells[names[0]]:
            found[int(code)] = cells[names[0]]
    return tuple(sorted(found.items()))


def look_like_classes(dataset: DatasetReader, band: int, fills: Sequence[float]) -> tuple[str, Classes]:
    """Return why a band's numbers are taken for classes (empty: they are not), and those that were seen.

    Three to a hundred whole numbers, none below 0, whose neighbours differ as if the numbers had no order.

    Parameters
    ----------
    dataset, band
        Where to look: at nine windows, of which one is enough where numbers are not whole.
    fills
        What stands for no data.
    """
    ranks: list[NDArray[np.float64]] = []
    seen: set[float] = set()
    for cells in _looks(dataset, band, fills):
        values = np.unique(cells[np.isfinite(cells)])
        seen |= set(values.tolist())
        if len(seen) > MOST_CLASSES or (values != np.rint(values)).any() or (values < 0).any():
            return "", ()
        ranks.append(cells)
    if len(seen) < 3 or roughness(ranks) < ROUGH:
        return "", ()
    return "whole numbers without order", tuple((int(code), "") for code in sorted(seen))


def roughness(windows: list[NDArray[np.float64]]) -> float:
    """Return the mean step between unlike neighbours, as a share of that between unlike cells drawn at random.

    Steps are counted in ranks; NaN is no neighbour. 0 where no neighbours differ.

    Examples
    --------
    >>> import numpy as np
    >>> slope = np.add.outer(np.arange(9.0), np.arange(9.0))
    >>> round(roughness([slope]), 2)
    0.22
    >>> round(roughness([slope * 5 % 9]), 2)  # the same numbers without order
    1.33
    """
    values, counts = np.unique(np.concatenate([cells[np.isfinite(cells)] for cells in windows]), return_counts=True)
    steps = []
    for cells in windows:
        rank = np.where(np.isfinite(cells), np.searchsorted(values, cells), np.nan)
        steps += [np.abs(np.diff(rank, axis=0)).ravel(), np.abs(np.diff(rank, axis=1)).ravel()]
    step = np.concatenate(steps)
    step = step[step > 0]
    if not len(step):
        return 0.0
    apart = np.abs(np.subtract.outer(np.arange(len(values)), np.arange(len(values))))
    pairs = np.outer(counts, counts) * (apart > 0.0)
    return float(step.mean() / ((pairs * apart).sum() / pairs.sum()))


def _looks(dataset: DatasetReader, band: int, fills: Sequence[float]) -> Iterator[NDArray[np.float64]]:
    """Yield windows spread over a band, as numbers with NaN where there is no data; all of a small one."""
    height, width = min(LOOK_CELLS, dataset.height), min(LOOK_CELLS, dataset.width)
    down = np.unique(np.linspace(0, dataset.height - height, 3).astype(int)).tolist()
    across = np.unique(np.linspace(0, dataset.width - width, 3).astype(int)).tolist()
    for row in sorted(down, key=lambda at: abs(at - (dataset.height - height) / 2)):  # data are likeliest in the middle
        for column in sorted(across, key=lambda at: abs(at - (dataset.width - width) / 2)):
            raw = dataset.read(band, window=Window(column, row, width, height))
            cells = raw.astype(np.float64)
            cells[~(np.abs(cells) < 1e38)] = np.nan
            cells[np.isin(cells, fills)] = np.nan
            yield cells
