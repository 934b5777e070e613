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
    blocks = spatial_blocks(lon, lat, config.block_size_km, counted)
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


def selection_rows(
    train_rows: NDArray[np.int64],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    config: SplitConfig,
    *,
    share: float,
    rng: np.random.Generator,
    counted: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions to fit on, to select the epoch on, and the buffer between them, each ascending.

    The training rows are divided into about ``1 / share`` folds of whole blocks, and the fold whose size is nearest
    to the share is taken: so at least one block, never all, and chosen as validation folds are. What stays to fit on
    keeps the buffer's distance from it; rows that are not counted lie in the buffer where their block is taken.

    Parameters
    ----------
    train_rows
        Positions of the training rows of a fold, as :func:`split_rows` gives them.
    lon, lat
        (N,) degrees of all rows.
    config
        Size of the blocks and width of the buffer.
    share
        Share of the counted training rows to select on, above 0 and at most 0.5.
    rng
        Deals out the blocks.
    counted
        (N,) rows that may be selected on, such as the plots among plots and records; by default all.

    Raises
    ------
    ReleveError
        If the share is out of range, the counted training rows lie in one block, or the buffer leaves nothing to fit.

    Examples
    --------
    Three of thirty rows, far from the others:

    >>> lon = np.repeat(np.arange(10.0), 3)
    >>> rows = np.arange(30)
    >>> rng = np.random.default_rng(0)
    >>> fit, select, buffer = selection_rows(rows, lon, np.full(30, 50.0), SplitConfig(), share=0.1, rng=rng)
    >>> len(fit), len(select), len(buffer), len(np.unique(lon[select]))
    (27, 3, 0, 1)
    """
    if not 0 < share <= 0.5:
        raise ReleveError(f"a share of {share:g} of the training rows to select on", expected="above 0 and at most 0.5")
    is_counted = np.ones(len(train_rows), bool) if counted is None else counted[train_rows]
    lon, lat = lon[train_rows], lat[train_rows]
    blocks = spatial_blocks(lon, lat, config.block_size_km, is_counted)
    num_blocks = len(np.unique(blocks[is_counted]))
    if num_blocks < 2:
        raise ReleveError(
            f"the {is_counted.sum()} training rows lie in {num_blocks} blocks of {config.block_size_km:g} km",
            expected="at least 2, one of them to select the epoch on",
            action="Set split.block_size_km lower",
        )
    inner = config.model_copy(update={"num_folds": min(round(1 / share), num_blocks)})
    folds = assign_folds(lon, lat, inner, rng=rng, counted=is_counted)
    sizes = np.bincount(folds[is_counted], minlength=inner.num_folds)
    taken = int(np.abs(sizes - share * sizes.sum()).argmin())
    fit, inside, near = split_rows(folds, lon, lat, taken, config.buffer_km)
    if not is_counted[fit].any():
        raise ReleveError(
            f"no training row lies {config.buffer_km:g} km from the rows that the epoch is selected on",
            expected="training rows beyond the buffer",
            action="Set split.buffer_km lower",
        )
    selected = inside[is_counted[inside]]
    between = np.sort(np.concatenate([inside[~is_counted[inside]], near]))
    return train_rows[fit], train_rows[selected], train_rows[between]


def spatial_blocks(
    lon: NDArray[np.float64], lat: NDArray[np.float64], block_size_km: float, counted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the square block of each row; rows that are not counted do not move the blocks."""
    return block_ids(project(lon, lat, equal_area_crs(lon[counted], lat[counted])), block_size_km)


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
