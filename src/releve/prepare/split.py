"""Folds: whole blocks are held out together, with a buffer between them and the training rows.

Blocks are squares on the ground, countries or regions.
"""

# N rows

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from releve.errors import ReleveError
from releve.geo import block_ids, nearest_km, unit_vectors
from releve.lists import Lists
from releve.prepare.balance import count_sites, deal_blocks
from releve.prepare.config import SplitConfig


@dataclass(frozen=True)
class Leakage:
    """How far a fold's validation rows lie from the rows it is trained on, and how many of its species are new.

    Distances are quantiles, over validation rows, of the distance to the nearest training row.
    ``num_untrained_species`` of the fold's ``num_species`` have no training row. ``num_without_group`` validation rows
    lack the country or region that the folds are made by, and follow the nearest row that has them.
    """

    fold: int
    num_train: int
    num_val: int
    num_buffer: int
    nearest_train_km: float
    q05_train_km: float
    q25_train_km: float
    median_train_km: float
    q75_train_km: float
    q95_train_km: float
    num_species: int
    num_untrained_species: int
    num_without_group: int


def assign_folds(
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    config: SplitConfig,
    *,
    rng: np.random.Generator,
    counted: NDArray[np.bool_] | None = None,
    labels: Lists | None = None,
    names: Sequence[str | None] | None = None,
) -> NDArray[np.int8]:
    """Return the fold, 0…num_folds-1, of each survey; surveys of one block share a fold; -1 where none is counted.

    Blocks are dealt so that folds share the surveys, and the occupied sites of each commoner species, as equally as
    whole blocks allow (:func:`releve.prepare.balance.deal_blocks`). Rows that are not counted take the fold of their
    block and change no other; in a block without counted rows, which is never validated on, they always train.

    By country or region each name is one block. A row without a name follows the nearest row on the ground that has
    one.

    Parameters
    ----------
    lon, lat
        (N,) degrees.
    config
        Method, block size and number of folds.
    rng
        Order of the blocks.
    counted
        (N,) surveys whose numbers are balanced, such as the plots among plots and records; by default all.
    labels
        The N sets of species that are balanced; by default only surveys are.
    names
        (N,) country or region of each row, for the methods that need them.

    Raises
    ------
    ReleveError
        If there are fewer blocks with counted surveys than folds, or the method lacks what it needs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> lon = np.array([0.0, 0.001, 2.0, 2.001, 4.0, 4.001])
    >>> folds = assign_folds(lon, np.full(6, 50.0), SplitConfig(num_folds=3), rng=rng)
    >>> bool((folds[::2] == folds[1::2]).all()), sorted(set(folds.tolist()))
    (True, [0, 1, 2])
    """
    counted = np.ones(len(lon), bool) if counted is None else counted
    blocks = _make_blocks(lon, lat, config, names)
    sizes = np.bincount(blocks[counted], minlength=blocks.max() + 1)
    occupied = np.flatnonzero(sizes)
    if len(occupied) < config.num_folds:
        by_squares = config.method == "blocks"
        raise ReleveError(
            f"the {counted.sum()} surveys lie in {len(occupied)} {_blocks_in_words(config)}",
            expected=f"at least {config.num_folds}, one for each fold",
            action="Set " + ("split.block_size_km lower, or " if by_squares else "") + "split.num_folds lower",
        )
    place = np.full(len(sizes), -1)
    place[occupied] = np.arange(len(occupied))
    sites = np.zeros((len(occupied), 0), np.int64)
    if labels is not None:
        sites = count_sites(labels.take(counted), place[blocks[counted]], len(occupied), config.num_folds)
    fold_of_block = np.full(len(sizes), -1, np.int8)
    fold_of_block[occupied] = deal_blocks(sizes[occupied], sites, config.num_folds, rng)
    return fold_of_block[blocks]


def has_group(config: SplitConfig, names: Sequence[str | None] | None, num_rows: int) -> NDArray[np.bool_]:
    """Return which rows have the country or region that the folds are made by; all of them for square blocks.

    Raises
    ------
    ReleveError
        If no row has.
    """
    if config.method == "blocks":
        return np.ones(num_rows, bool)
    has = np.array([name is not None and name != "" for name in names or [None] * num_rows], bool)
    if not has.any():
        raise ReleveError(
            f"no row has a value of {config.method}",
            expected=f"some, as split.method is {config.method!r}",
            action="Set split.method = 'blocks', or add what is missing to the release",
        )
    return has


def _make_blocks(
    lon: NDArray[np.float64], lat: NDArray[np.float64], config: SplitConfig, names: Sequence[str | None] | None
) -> NDArray[np.int64]:
    """Return the number of the block, of whichever kind, of each row."""
    if config.method == "blocks":
        return block_ids(lon, lat, config.block_size_km)
    has = has_group(config, names, len(lon))
    blocks = np.full(len(lon), -1)
    blocks[has] = np.unique(np.array(names, object)[has].astype(str), return_inverse=True)[1]
    if not has.all():
        known = cKDTree(unit_vectors(lon[has], lat[has]))
        blocks[~has] = blocks[has][known.query(unit_vectors(lon[~has], lat[~has]))[1]]
    return blocks


def _blocks_in_words(config: SplitConfig) -> str:
    words = {"blocks": f"blocks of {config.block_size_km:g} km", "country": "countries", "region": "regions"}
    return words[config.method]


def split_rows(
    fold_of_row: NDArray[np.int8],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    fold: int,
    buffer_km: float,
    reach_km: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the training, held-out and buffer rows of one fold, each ascending.

    Parameters
    ----------
    fold_of_row, lon, lat
        (N,) fold and degrees of each row.
    fold
        The fold that is held out.
    buffer_km
        No training row lies nearer to a held-out row.
    reach_km
        (N,) how far what a row was made of lies from its place: a pseudo-plot's farthest record. The buffer is kept
        from there on, so that no record of a training row lies inside it; by default rows are points. Held-out rows
        are taken to reach as far as the farthest-reaching of those that reach up to twice as far.

    Examples
    --------
    The second row is a pseudo-plot 1.5 km from the plot that is held out, with a record 0.9 km nearer:

    >>> folds, lon, lat = np.array([0, 1, 1], np.int8), np.full(3, 10.0), np.array([50.0, 50.0135, 50.1])
    >>> [rows.tolist() for rows in split_rows(folds, lon, lat, 0, 1.0)]
    [[1, 2], [0], []]
    >>> [rows.tolist() for rows in split_rows(folds, lon, lat, 0, 1.0, np.array([0.0, 0.9, 0.0]))]
    [[2], [0], [1]]
    """
    held_out = np.flatnonzero(fold_of_row == fold)
    rest = np.flatnonzero(fold_of_row != fold)
    reach = np.zeros(len(lon)) if reach_km is None else reach_km
    gap_km = np.full(len(rest), np.inf)
    size = np.ceil(np.log2(np.maximum(reach[held_out], 2.0**-10)))  # far-reaching rows do not speak for the others
    for like in np.unique(size):
        some = held_out[size == like]
        to_km = nearest_km(lon[rest], lat[rest], lon[some], lat[some]) - reach[some].max()
        gap_km = np.minimum(gap_km, to_km - reach[rest])
    return rest[gap_km >= buffer_km], held_out, rest[gap_km < buffer_km]


def selection_rows(
    train_rows: NDArray[np.int64],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    config: SplitConfig,
    *,
    share: float,
    rng: np.random.Generator,
    counted: NDArray[np.bool_] | None = None,
    labels: Lists | None = None,
    reach_km: NDArray[np.float64] | None = None,
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
    labels
        The N sets of species, whose sites the blocks are balanced over too.
    reach_km
        As in :func:`split_rows`.

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
    blocks = block_ids(lon, lat, config.block_size_km)
    num_blocks = len(np.unique(blocks[is_counted]))
    if num_blocks < 2:
        raise ReleveError(
            f"the {is_counted.sum()} training rows lie in {num_blocks} blocks of {config.block_size_km:g} km",
            expected="at least 2, one of them to select the epoch on",
            action="Set split.block_size_km lower",
        )
    inner = config.model_copy(update={"method": "blocks", "num_folds": min(round(1 / share), num_blocks)})
    own = None if labels is None else labels.take(train_rows)
    folds = assign_folds(lon, lat, inner, rng=rng, counted=is_counted, labels=own)
    sizes = np.bincount(folds[is_counted], minlength=inner.num_folds)
    taken = int(np.abs(sizes - share * sizes.sum()).argmin())
    reach_km = None if reach_km is None else reach_km[train_rows]
    fit, inside, near = split_rows(folds, lon, lat, taken, config.buffer_km, reach_km)
    if not is_counted[fit].any():
        raise ReleveError(
            f"no training row lies {config.buffer_km:g} km from the rows that the epoch is selected on",
            expected="training rows beyond the buffer",
            action="Set split.buffer_km lower",
        )
    selected = inside[is_counted[inside]]
    between = np.sort(np.concatenate([inside[~is_counted[inside]], near]))
    return train_rows[fit], train_rows[selected], train_rows[between]


def measure_leakage(
    fold_of_row: NDArray[np.int8],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    config: SplitConfig,
    counted: NDArray[np.bool_] | None = None,
    *,
    labels: Lists | None = None,
    has_group: NDArray[np.bool_] | None = None,
    reach_km: NDArray[np.float64] | None = None,
) -> list[Leakage]:
    """Return, for each fold, how far its validation rows lie from training rows, and how many species are new in it.

    Of the validation rows only those in ``counted`` are looked at, of the training rows all.
    """
    return [
        measure_fold(
            *(fold_of_row, lon, lat, fold, config.buffer_km, counted),
            labels=labels,
            has_group=has_group,
            reach_km=reach_km,
        )
        for fold in range(config.num_folds)
    ]


def measure_fold(
    fold_of_row: NDArray[np.int8],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
    fold: int,
    buffer_km: float,
    counted: NDArray[np.bool_] | None = None,
    *,
    labels: Lists | None = None,
    has_group: NDArray[np.bool_] | None = None,
    reach_km: NDArray[np.float64] | None = None,
) -> Leakage:
    """Return one row of :func:`measure_leakage`."""
    train, val, buffer = split_rows(fold_of_row, lon, lat, fold, buffer_km, reach_km)
    val = val if counted is None else val[counted[val]]
    distances = nearest_km(lon[val], lat[val], lon[train], lat[train])
    q05, q25, median, q75, q95 = np.quantile(distances, [0.05, 0.25, 0.5, 0.75, 0.95], method="nearest").tolist()
    species = np.unique(labels.take(val).indices) if labels is not None else np.zeros(0, np.int32)
    trained = np.unique(labels.take(train).indices) if labels is not None else species
    return Leakage(
        fold=fold,
        num_train=len(train),
        num_val=len(val),
        num_buffer=len(buffer),
        nearest_train_km=float(distances.min()),
        q05_train_km=q05,
        q25_train_km=q25,
        median_train_km=float(np.median(distances)),
        q75_train_km=q75,
        q95_train_km=q95,
        num_species=len(species),
        num_untrained_species=len(np.setdiff1d(species, trained)),
        num_without_group=0 if has_group is None else int((~has_group[val]).sum()),
    )
