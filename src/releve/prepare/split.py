"""Spatial folds: whole blocks are held out together, with a buffer between them and the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from releve.errors import ReleveError
from releve.geo import block_ids, equal_area_crs, nearest_km, project


class SplitConfig(BaseModel):
    """How labelled surveys are divided into spatial folds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    block_size_km: float = Field(50.0, gt=0)
    """Side of the square blocks that are held out whole."""
    num_folds: int = Field(5, ge=2, le=50)
    """Number of folds; a model is validated on one and trained on the others."""
    buffer_km: float = Field(1.0, ge=0)
    """Training rows nearer than this to a validation row are left out."""


@dataclass(frozen=True)
class Leakage:
    """How far a fold's validation rows lie from the rows it is trained on."""

    fold: int
    num_train: int
    num_val: int
    num_buffer: int
    nearest_train_km: float
    median_train_km: float


def assign_folds(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    config: SplitConfig,
    *,
    rng: np.random.Generator,
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.int8]:
    """Return the fold, 0…num_folds-1, of each survey; surveys of one block share a fold; -1 where none is counted.

    Blocks are dealt out largest first, each to the fold that holds the fewest surveys (ties at random), so that the
    folds are near to equal in size. Rows that are not counted take the fold of their block and change no other;
    in a block without counted rows, which is never validated on, they always train.

    Parameters
    ----------
    lon, lat
        (N,) degrees.
    config
        Block size and number of folds.
    rng
        Shuffles blocks of equal size.
    counted
        (N,) surveys whose numbers are balanced, such as the plots among plots and records; by default all.

    Raises
    ------
    ReleveError
        If there are fewer blocks with counted surveys than folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> lon = np.array([0.0, 0.001, 2.0, 2.001, 4.0, 4.001])
    >>> folds = assign_folds(lon, np.full(6, 50.0), SplitConfig(num_folds=3), rng=rng)
    >>> bool((folds[::2] == folds[1::2]).all()), sorted(set(folds.tolist()))
    (True, [0, 1, 2])
    """
    counted = np.ones(len(lon), bool) if counted is None else counted
    crs = equal_area_crs(lon[counted], lat[counted])  # so that further rows do not move the blocks
    blocks = block_ids(project(lon, lat, crs), config.block_size_km)
    sizes = np.bincount(blocks[counted], minlength=blocks.max() + 1)
    occupied = np.flatnonzero(sizes)
    if len(occupied) < config.num_folds:
        raise ReleveError(
            f"the {counted.sum()} surveys lie in {len(occupied)} blocks of {config.block_size_km:g} km",
            expected=f"at least {config.num_folds} blocks, one for each fold",
            action="Set split.block_size_km lower, or split.num_folds lower",
        )
    order = rng.permutation(occupied)
    order = order[np.argsort(-sizes[order], kind="stable")]
    loads = np.zeros(config.num_folds)
    fold_of_block = np.empty(len(sizes), np.int8)
    fold_of_block[sizes == 0] = -1
    for block in order:
        lightest = np.flatnonzero(loads == loads.min())
        fold_of_block[block] = rng.choice(lightest)
        loads[fold_of_block[block]] += sizes[block]
    return fold_of_block[blocks]


def split_rows(
    fold_of_row: NDArray[np.int8],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    fold: int,
    buffer_km: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the training, validation and buffer rows of one fold, each ascending."""
    val = np.flatnonzero(fold_of_row == fold)
    rest = np.flatnonzero(fold_of_row != fold)
    near = nearest_km(lon[rest], lat[rest], lon[val], lat[val]) < buffer_km
    return rest[~near], val, rest[near]


def measure_leakage(
    fold_of_row: NDArray[np.int8],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    config: SplitConfig,
    counted: NDArray[np.bool_] | None = None,
) -> list[Leakage]:
    """Return, for each fold, the distance from its validation rows to the nearest training row.

    Of the validation rows only those in ``counted`` are looked at, of the training rows all.
    """
    table = []
    for fold in range(config.num_folds):
        train, val, buffer = split_rows(fold_of_row, lon, lat, fold, config.buffer_km)
        val = val if counted is None else val[counted[val]]
        distances = nearest_km(lon[val], lat[val], lon[train], lat[train])
        table.append(
            Leakage(fold, len(train), len(val), len(buffer), float(distances.min()), float(np.median(distances)))
        )
    return table
