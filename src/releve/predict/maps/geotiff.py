"""Images of a map as cloud-optimised GeoTIFFs: written by window, copied once at the end, with overviews and tags."""

# H W rows and columns

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from releve.errors import ReleveError
from releve.files import atomic_path
from releve.predict.maps.grid import Tile
from releve.rasters.grid import Grid

COPY_CACHE_BYTES = 256 * 2**20
"""What GDAL may keep of an image while it is copied."""


@contextmanager
def image_writer(
    path: Path,
    grid: Grid,
    dtype: str,
    bands: Sequence[str],
    *,
    nodata: float,
    resampling: str,
    tags: Mapping[str, str],
) -> Iterator[ImageWriter]:
    """Yield what takes an image tile by tile; it becomes a cloud-optimised GeoTIFF when the block ends well.

    Parameters
    ----------
    path
        The image.
    grid
        Its grid.
    dtype
        Of its numbers.
    bands
        A description of each band.
    nodata
        What stands for no value.
    resampling
        How overviews are made: ``average``, ``nearest`` or ``mode``, which is ``nearest`` if ``nodata`` is negative.
    tags
        What else is written into the file.

    Raises
    ------
    ReleveError
        If it cannot be written, as on a full disk.
    """
    plain = path.with_name(f".{path.stem}.plain.tif")
    options: dict[str, Any] = {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": grid.block_width,
        "blockysize": grid.block_height,
    }
    options |= {"compress": "zstd", "zstd_level": 1, "interleave": "band", "bigtiff": "if_safer", "sparse_ok": True}
    shape = {"height": grid.height, "width": grid.width, "count": len(bands), "dtype": dtype, "nodata": nodata}
    try:
        with rasterio.Env(GDAL_CACHEMAX=COPY_CACHE_BYTES):
            with rasterio.open(plain, "w", crs=grid.crs, transform=grid.affine, **options, **shape) as dataset:
                dataset.update_tags(**tags)
                for band, text in enumerate(bands, 1):
                    dataset.set_band_description(band, text)
                writer = ImageWriter(dataset, nodata)
                yield writer
            with atomic_path(path) as partial:
                # Of cells without a value, which -1 stands for, GDAL 3.10 makes 0 as the commonest code.
                _copy(plain, partial, dtype, "nearest" if resampling == "mode" and nodata < 0 else resampling)
                _check_copy(partial, writer)
    except (RasterioError, OSError) as error:
        raise ReleveError(
            f"{path} cannot be written ({str(error.__cause__ or error)[:200]})",
            action="Make room on the disk, then run the same command again: finished tiles are kept",
        ) from error
    finally:
        plain.unlink(missing_ok=True)


def _copy(plain: Path, out: Path, dtype: str, resampling: str) -> None:
    options = {"compress": "DEFLATE", "level": 6, "predictor": "YES", "blocksize": 512, "bigtiff": "IF_SAFER"}
    options |= {"overview_resampling": Resampling[resampling].name.upper(), "overviews": "IGNORE_EXISTING"}
    try:
        rasterio.shutil.copy(plain, out, driver="COG", **options)
    except Exception as error:  # GDAL's own, which rasterio gives no public name
        raise OSError(None, str(error)) from error


def _check_copy(file: Path, writer: ImageWriter) -> None:
    """Make sure that an image holds what was written: GDAL is silent where a disk is full when it closes a file.

    Raises
    ------
    OSError
        If it does not.
    """
    found = np.zeros_like(writer.tallies)
    with rasterio.open(file) as dataset:
        for index in dataset.indexes:
            for _, window in dataset.block_windows(index):
                found[index - 1] += _tally(dataset.read(index, window=window), writer.nodata)
    if (found != writer.tallies).any():
        raise OSError(None, "not all that was written is there")


def _tally(cells: NDArray, nodata: float) -> NDArray[np.uint64]:
    """Return how many cells have a value, and the sum of the bits of these, whatever their order."""
    known = (cells == cells) & (cells != nodata)
    bits = np.ascontiguousarray(cells).view(f"u{cells.dtype.itemsize}")
    return np.array([np.count_nonzero(known), bits[known].sum(dtype=np.uint64)], np.uint64)


class ImageWriter:
    """An image that is being written."""

    def __init__(self, dataset: DatasetWriter, nodata: float) -> None:
        """Take an open image."""
        self._dataset, self.nodata = dataset, nodata
        self.tallies = np.zeros((dataset.count, 2), np.uint64)

    def write(self, tile: Tile, band: int, values: NDArray) -> None:
        """Write one band, from 1, of a tile, once: (height, width) or (cells,) numbers."""
        window = Window(tile.column, tile.row, tile.width, tile.height)
        cells = np.asarray(values).reshape(tile.height, tile.width)
        cells = cells.astype(self._dataset.dtypes[band - 1], copy=False)
        self._dataset.write(cells, band, window=window)
        self.tallies[band - 1] += _tally(cells, self.nodata)
