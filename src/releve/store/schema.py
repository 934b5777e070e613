"""What a store holds: the manifest, the arrays, and how each file is checked."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

STORE_FORMAT = 2
"""Raised when the layout of a store changes; older stores are refused with a request to prepare again."""


class ArraySpec(BaseModel):
    """One modality's array: (rows, *shape) in ``file``; ``row_<name>`` of the surveys table points into it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    """Shape of one row."""
    num_rows: int
    fill: float | None
    """The value that stands for missing; None in a float array means NaN."""
    encoding: str = "raw"
    """``raw``, or the codec of the blobs in ``file`` (``jpeg``, ``tiff``), whose places are in ``index_file``."""
    index_file: str | None = None
    """(rows, 1 + blobs a row) int64 byte offsets of the encoded blobs."""
    channels: tuple[str, ...]
    units: dict[str, str] = {}
    groups: dict[str, str] = {}
    categorical: tuple[str, ...] = ()
    classes: dict[str, dict[int, str]] = {}
    """Of a categorical channel whose classes have names, the name of each code."""
    first_year: int | None = None
    """Calendar year of the first step of a series, whose row has shape (channels, years, seasons)."""

    @property
    def row_column(self) -> str:
        """Name of the column of the surveys table that points into this array (-1: the survey lacks it)."""
        return f"row_{self.name}"


class FileCheck(BaseModel):
    """Size and checksum of one file of the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_bytes: int
    sha256: str


class Manifest(BaseModel):
    """Everything that says what a store is, where it came from and whether it is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    releve: str
    release: str
    """The kind of release the store was made from, such as ``glc24``."""
    origin: str
    """The release's title."""
    recipe: dict[str, Any]
    """The resolved ``data`` and ``split`` sections."""
    fingerprint: str
    """SHA-256 over the release's files: contents of tables, names and sizes of single cubes and patches."""
    seed: int
    num_surveys: int
    num_species: int
    num_folds: int
    arrays: dict[str, ArraySpec]
    dropped: dict[str, dict[str, int]]
    """Rows dropped and values masked, by split and reason."""
    dropped_by_publisher: list[dict[str, Any]] = []
    """Presence-only records that cleaning dropped: reason, publisher, count."""
    problems: list[dict[str, Any]]
    """Files that could not be read; their surveys lack that modality."""
    leakage: list[dict[str, float]]
    """For each fold, the distance from validation to training rows."""
    files: dict[str, FileCheck]
