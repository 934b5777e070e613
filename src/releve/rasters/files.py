"""Which files a raster's description means, and how they are opened."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from releve.errors import RasterError, nearest

CACHE_BYTES = 128 * 2**20
"""What GDAL may keep of the blocks that it has read, of all threads together."""
BESIDE = (
    *(".xml", ".prj", ".ovr", ".msk", ".gri", ".tfw", ".tifw", ".wld", ".pgw", ".jgw", ".clr", ".stx", ".dbf", ".cpg"),
    *(".txt", ".csv", ".tsv", ".md", ".json", ".html", ".toml", ".xlsx", ".parquet", ".lock", ".part"),
)
"""Endings of files that lie beside rasters, and are none: a pattern such as ``climate/*`` passes them over."""
_INSIDE = re.compile(r'([A-Za-z][A-Za-z0-9_]+):"?([^"]+?)"?((?::[^:"]*)*)')
"""A variable inside a file, as GDAL writes it: driver, file, what is in it."""


def find_rasters(file: str | Sequence[str], root: Path) -> tuple[str, ...]:
    """Return what GDAL is to open, in the order of the names: ``bio2`` before ``bio10``.

    Only a name with ``*`` or ``?`` that no file has is a pattern; brackets are part of a name.

    Parameters
    ----------
    file
        A file, a pattern, or several; from ``root``. Also ``NETCDF:"file.nc":variable`` and remote paths.
    root
        Folder of the study.

    Raises
    ------
    RasterError
        If there is no such file.
    """
    found: list[str] = []
    for name in (file,) if isinstance(file, str) else file:
        found += [path for path in _one(name, root) if path not in found]
    return tuple(found)


@contextmanager
def open_raster(source: str) -> Iterator[DatasetReader]:
    """Open a raster; what goes wrong inside the block, in opening or in reading, is an error that names the file.

    Raises
    ------
    RasterError
        If it cannot be opened or read.
    """
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(source) as dataset:
            yield dataset
    except (RasterioError, OSError) as error:
        path = local_path(source)
        if path is not None and not path.exists():
            raise RasterError(
                f"no raster {path}", action="It was moved or removed since study.toml was read"
            ) from error
        if path is not None and path.is_dir():
            raise RasterError(
                f"{path} is a folder, and no raster by itself",
                expected="a raster",
                action=f'Name the files in it: file = "{path.name}/*"',
            ) from error
        said = str(error.__cause__ or error).strip().removeprefix(f"{source}: ")
        raise RasterError(
            f"{source} cannot be read ({said[:300]})",
            expected="a raster in a format of GDAL",
            action="If it opens elsewhere, copy or download it again",
        ) from error


@contextmanager
def without_grids() -> Iterator[None]:
    """Let files be opened that do not say where they lie; not in threads, of which all have the same warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def local_path(source: str) -> Path | None:
    """Return the file behind what GDAL opens, or None if it is none of this machine's disks.

    Examples
    --------
    >>> local_path("https://example.org/a.tif") is None
    True
    >>> local_path('NETCDF:"/data/a b.nc":tas').as_posix()
    '/data/a b.nc'
    """
    if is_remote(source):
        return None
    inside = _INSIDE.fullmatch(source)
    return Path(inside[2]) if inside and not Path(source).exists() else Path(source)


def is_remote(source: str) -> bool:
    """Return whether GDAL finds the file by itself, over a network or inside an archive."""
    return "://" in source or source.startswith("/vsi")


def variable_of(source: str) -> str:
    """Return the name of a variable inside a file.

    Examples
    --------
    >>> variable_of('NETCDF:"/data/cube.nc":tas'), variable_of("ZARR:/data/cube.zarr:/tas")
    ('tas', 'tas')
    """
    return source.rpartition(":")[2].strip("/")


def is_there(name: str, root: Path) -> bool:
    """Return whether a raster of this name is there; of a remote one nobody knows before it is opened."""
    inside = _INSIDE.fullmatch(name)
    return is_remote(name) or (root / name).exists() or bool(inside and (root / inside[2]).exists())


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers inside names by their size.

    Examples
    --------
    >>> sorted(["bio10.tif", "bio2.tif", "Bio1.tif"], key=natural_key)
    ['Bio1.tif', 'bio2.tif', 'bio10.tif']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _one(name: str, root: Path) -> list[str]:
    if is_remote(name):
        return [name]
    path = root / name
    if path.exists():
        _refuse_empty(path)
        return [str(path)]
    if path.is_symlink():
        raise RasterError(f"{path} is a link to {path.readlink()}, which is not there", expected="a raster")
    alike = [file for file in _names_in(path.parent) if _composed(file) == _composed(path.name)]
    if alike:
        return _one(str(Path(name).with_name(alike[0])), root)
    inside = _INSIDE.fullmatch(name)
    if inside and len(inside[1]) > 1 and (root / inside[2]).exists():  # one letter is a drive of Windows
        return [f'{inside[1]}:"{root / inside[2]}"{inside[3]}']
    if "*" in name or "?" in name:
        anchor = Path(path.anchor)
        pattern = path.relative_to(anchor).as_posix().replace("[", "[[]")
        matches = sorted(map(str, anchor.glob(pattern)), key=natural_key)
        matches = [match for match in matches if not match.lower().endswith(BESIDE)]
        if not matches:
            raise RasterError(f"no raster matches {name!r} in {root}", expected="at least one file")
        for match in matches:
            _refuse_empty(Path(match))
        return matches
    raise RasterError(f"no raster {path}", action=_near(path))


def _refuse_empty(path: Path) -> None:
    if path.is_file() and path.stat().st_size == 0:
        raise RasterError(f"{path} has 0 bytes", expected="a raster", action="Copy or download it again")


def _near(path: Path) -> str:
    """Return what to do about a missing file: the nearest name of its folder, or the folder that is missing."""
    if not path.parent.is_dir():
        return f"There is no folder {path.parent} either"
    names = [file for file in _names_in(path.parent) if not file.lower().endswith(BESIDE)]
    return f"In {path.parent}, {nearest(path.name, names[:200])}" if names else f"{path.parent} holds no raster"


def _names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def _composed(name: str) -> str:
    """Return a name with each accent in one character with its letter; some systems keep them apart."""
    return unicodedata.normalize("NFC", name)


def read_bands(dataset: DatasetReader, bands: Iterable[int], window: Window) -> dict[int, NDArray]:
    """Return the cells of some bands; those of one type are read together, so that a block is inflated once."""
    types: dict[str, list[int]] = {}
    for band in sorted(set(bands)):
        types.setdefault(dataset.dtypes[band - 1], []).append(band)
    return {
        band: cells
        for alike in types.values()
        for band, cells in zip(alike, dataset.read(alike, window=window), strict=True)
    }
