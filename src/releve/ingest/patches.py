"""Image patches of a split's surveys: RGB + NIR JPEG files or four-band TIFF files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, UnidentifiedImageError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from releve.errors import ReleaseError, pick
from releve.ingest.chunks import Chunk, ChunkSource
from releve.ingest.files import FileIndex, index_files
from releve.ingest.ids import file_numbers
from releve.ingest.layouts import JPEG, TIFF, PatchLayout
from releve.ingest.problems import Problem
from releve.ingest.release import Release


class PatchChunk(Chunk):
    """Patches of a few surveys: values are (rows, channels, height, width)."""


@dataclass(frozen=True)
class PatchSource(ChunkSource[PatchChunk]):
    """The patches of one split. Small enough to be sent to another process."""

    root: Path
    split: str
    has: np.ndarray
    """bool, aligned to the survey table: every file of this survey's patch is there."""
    rules: PatchLayout
    survey_ids: pl.Series
    files: tuple[FileIndex, ...]
    """One for each part of a patch."""
    positions: tuple[np.ndarray, ...]
    """Where each survey's file is in each of ``files``."""
    modality: str = "patch"

    @property
    def kind(self) -> str:
        """``jpeg`` or ``tiff``."""
        return self.rules.kind

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Bands, in order."""
        return tuple(name for _, names in self.rules.parts for name in names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return len(self.channel_names), self.rules.size, self.rules.size

    @property
    def dtype(self) -> np.dtype:
        """Type of a decoded patch."""
        return np.dtype(self.rules.dtype)

    @property
    def fill(self) -> int | None:
        """What stands for a missing pixel, if the format has such."""
        return self.rules.fill

    @property
    def units(self) -> str:
        """What the numbers mean."""
        return self.rules.units

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions, in the survey table, of the surveys that have data; found once, not at every chunk."""
        return np.flatnonzero(self.has)

    def read_chunk(self, index: int, chunk_size: int = 256) -> PatchChunk:
        """Return one chunk; a survey whose file is broken is left out, with a problem."""
        return read_patch_chunk(self, index, chunk_size)

    def paths(self, row: int) -> tuple[str, ...]:
        """Return the paths, from the release's root, of a survey's files."""
        return tuple(
            files.path(int(positions[row])) for files, positions in zip(self.files, self.positions, strict=True)
        )

    def read_bytes(self, row: int) -> tuple[bytes, ...]:
        """Return a survey's files as they are, undecoded: (rgb, nir), (rgb,) or (tiff,).

        Raises
        ------
        ReleaseError
            If a file cannot be read.
        """
        try:
            return tuple((self.root / path).read_bytes() for path in self.paths(row))
        except OSError as error:
            raise ReleaseError(f"cannot be read ({error.strerror})", expected=f"a {self.kind} file") from error


def patch_source(
    release: Release, split: str, survey_table: pl.DataFrame, *, kind: str | None = None
) -> PatchSource | None:
    """Return where the patches of a split are read from, or None if the release has none.

    Parameters
    ----------
    release, split
        Where to read.
    survey_table
        ``Surveys.table``; rows of chunks are positions in it.
    kind
        ``jpeg`` or ``tiff``; by default the layout's first kind that is there.

    Raises
    ------
    ConfigError
        If the kind is unknown.
    """
    known = {rules.kind: rules for rules in release.rules.patches}
    wanted = known.values() if kind is None else [pick(known, kind, what="kind of patch")]
    for rules in wanted:
        parts = [
            (part, index_files(release.root, release.tree, release.pattern(split, part[0]))) for part in rules.parts
        ]
        present = [(part, files) for part, files in parts if len(files.ids)]
        if present and present[0][0] == rules.parts[0]:
            return _source(release, split, rules, survey_table, present)
    return None


def _source(
    release: Release,
    split: str,
    rules: PatchLayout,
    survey_table: pl.DataFrame,
    present: list[tuple[tuple[str, tuple[str, ...]], FileIndex]],
) -> PatchSource:
    ids = file_numbers(survey_table["patch_id"])
    positions = tuple(files.positions(ids) for _, files in present)
    kept = PatchLayout(rules.kind, tuple(part for part, _ in present), rules.size, rules.dtype, rules.fill, rules.units)
    return PatchSource(
        release.root,
        split,
        np.all([at >= 0 for at in positions], axis=0),
        kept,
        survey_table["survey_id"],
        tuple(files for _, files in present),
        positions,
    )


def read_patch_chunk(source: PatchSource, index: int, chunk_size: int = 256) -> PatchChunk:
    """Return one chunk of a source; a survey whose file is broken is left out, with a problem."""
    rows = source.chunk_rows(index, chunk_size)
    kept, patches, problems = [], [], []
    for row in rows.tolist():
        try:
            patches.append(decode_patch(source.kind, source.read_bytes(row)))
            kept.append(row)
        except ReleaseError as error:
            path = " + ".join(source.paths(row))
            problems.append(Problem(source.split, source.modality, source.survey_ids[row], path, str(error)))
    values = np.stack(patches) if patches else np.empty((0, *source.shape), dtype=source.dtype)
    return PatchChunk(np.array(kept, dtype=np.int64), values, problems)


def decode_patch(kind: str, blobs: tuple[bytes, ...]) -> np.ndarray:
    """Return the (C, H, W) array of a patch's encoded files: uint8 of JPEG, int16 of TIFF (-1: missing).

    Raises
    ------
    ReleaseError
        If a file is broken, or its size, bands or type are not the official ones.
    """
    return pick({"jpeg": _decode_jpegs, "tiff": _decode_tiff}, kind, what="kind of patch")(blobs)


def _decode_jpegs(blobs: tuple[bytes, ...]) -> np.ndarray:
    bands = [_decode_jpeg(blob, mode) for blob, mode in zip(blobs, ("RGB", "L"), strict=False)]
    return np.concatenate(bands)


def _decode_jpeg(blob: bytes, mode: str) -> np.ndarray:
    """Return (bands, H, W) of one JPEG file."""
    expected = f"a JPEG of {JPEG.size} x {JPEG.size} pixels in mode {mode}"
    try:
        with Image.open(io.BytesIO(blob), formats=("JPEG",)) as image:
            if image.size != (JPEG.size, JPEG.size) or image.mode != mode:
                found = f"{image.width} x {image.height} pixels in mode {image.mode}"
                raise ReleaseError(f"holds {found}", expected=expected)
            pixels = np.asarray(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        what = "not a JPEG" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ReleaseError(f"cannot be decoded ({what}, {len(blob)} bytes)", expected=expected) from error
    return pixels.reshape(JPEG.size, JPEG.size, -1).transpose(2, 0, 1)


def band_order(described: Sequence[str | None], names: Sequence[str]) -> list[int]:
    """Return where each band of the official order lies in a file that names its bands; without names, as they are.

    Raises
    ------
    ReleaseError
        If some bands have names and these are not the ones expected.

    Examples
    --------
    >>> band_order(["B2", "B3", "B4", "B8"], ["red", "green", "blue", "nir"])
    [2, 1, 0, 3]
    """
    if not any(described):
        return list(range(len(names)))
    ours = [SENTINEL_BANDS.get((name or "").strip().lower(), (name or "").strip().lower()) for name in described]
    if sorted(ours) != sorted(names):
        raise ReleaseError(f"has bands named {list(described)}", expected=f"{list(names)}, or no names")
    return [ours.index(name) for name in names]


SENTINEL_BANDS = {
    **dict.fromkeys(("b2", "b02"), "blue"),
    **dict.fromkeys(("b3", "b03"), "green"),
    **dict.fromkeys(("b4", "b04"), "red"),
    **dict.fromkeys(("b8", "b08"), "nir"),
}
"""Bands of Sentinel-2 at 10 m by their numbers."""


def _decode_tiff(blobs: tuple[bytes, ...]) -> np.ndarray:
    """Return (4, H, W) of a TIFF, its bands in the official order and every negative value as the fill."""
    names = TIFF.parts[0][1]
    expected = f"a TIFF of {len(names)} int16 bands, {TIFF.size} x {TIFF.size} pixels"
    if not blobs[0]:
        raise ReleaseError("is empty", expected=expected)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with MemoryFile(blobs[0]) as memory, memory.open(driver="GTiff") as image:
                form = (image.count, image.height, image.width), set(image.dtypes)
                if form != ((len(names), TIFF.size, TIFF.size), {TIFF.dtype}):
                    raise ReleaseError(f"holds {form[0]} of {'/'.join(sorted(form[1]))}", expected=expected)
                pixels: np.ndarray = image.read()
                described, nodata = image.descriptions, image.nodata
    except (RasterioError, ValueError) as error:
        raise ReleaseError(f"cannot be decoded ({error}, {len(blobs[0])} bytes)", expected=expected) from error
    pixels = pixels[band_order(described, names)]
    missing = (pixels < 0) if nodata is None else (pixels < 0) | (pixels == nodata)
    pixels[missing] = TIFF.fill
    return pixels
