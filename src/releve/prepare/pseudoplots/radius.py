"""Clusters of places with a bound on their size, in near-linear time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from releve.geo import EARTH_RADIUS_KM, unit_vectors

EARTH_RADIUS_M = 1000 * EARTH_RADIUS_KM
WHOLE = 2.0**40
"""Places on the unit sphere are added up in whole numbers of 1 / WHOLE, so that their order does not matter."""


def cluster_places(
    lon: NDArray[np.float64], lat: NDArray[np.float64], radius_m: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the cluster of each place, and the clusters' centres; no place is farther than the radius from its centre.

    Centres are chosen densest first, none within the radius of another of the same round:

    1. Places are put into small cells (radius / sqrt 2 high and at most as wide, so that a cell's places all lie
       within the radius of their mean); each cell proposes the mean of its places, with their number as its priority.
    2. A proposal becomes a centre if none of higher priority lies within the radius. Those within the radius of a
       new centre are withdrawn; this is repeated until none is left (the greedy choice in order of priority, done
       for all neighbourhoods at once).
    3. Places farther than the radius from all centres start again at 1. A new centre covers at least its own cell,
       so this ends; a handful of rounds is usual.
    4. Each place joins the nearest centre.

    Distances are great circles on a sphere, so that poles and antimeridian are places like any other. The result
    depends on the places only, not on their order; there are no random numbers.

    Parameters
    ----------
    lon, lat
        (N,) degrees; repeated places count as often as they occur.
    radius_m
        Largest distance of a place from its centre.

    Returns
    -------
    tuple
        (N,) int64 cluster, 0 and up; (K, 3) vectors of length 1 of the centres.

    Examples
    --------
    Along the equator 0.005 degrees are 556 m:

    >>> clusters, centres = cluster_places(np.array([0.0, 0.005, 0.02]), np.zeros(3), 1000)
    >>> (clusters[1:] == clusters[:-1]).tolist(), len(centres)
    ([True, False], 2)
    """
    if len(lon) == 0:
        return np.empty(0, np.int64), np.empty((0, 3))
    angle = min(radius_m / EARTH_RADIUS_M, np.pi)
    reach = 2 * np.sin(angle / 2)  # the chord
    cells = _small_cells(lon, lat, 0.99 * angle / np.sqrt(2))  # 0.99: room for rounding
    order = np.argsort(cells, kind="stable")  # neighbours together, which also makes the searches fast
    cells, vectors = cells[order], unit_vectors(lon[order], lat[order])
    centres = np.empty((0, 3))
    left = np.arange(len(vectors))
    while len(left):
        starts = np.flatnonzero(np.diff(cells[left], prepend=-1))
        sums = np.add.reduceat(np.rint(vectors[left] * WHOLE).astype(np.int64), starts).astype(np.float64)
        proposals = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        new = proposals[_choose(proposals, np.diff(starts, append=len(left)), reach)]
        centres = np.concatenate([centres, new])
        left = left[~np.isfinite(_nearest(vectors[left], new, reach)[0])]
    _, nearest = _nearest(vectors, centres, reach)
    occupied = np.bincount(nearest, minlength=len(centres)) > 0
    found = np.empty(len(lon), np.int64)
    found[order] = (np.cumsum(occupied) - 1)[nearest]
    return found, centres[occupied]


def _small_cells(lon: NDArray[np.float64], lat: NDArray[np.float64], side_rad: float) -> NDArray[np.int64]:
    """Return a number for the cell of each place: rows of one height, each cut into cells at most as wide."""
    side = np.degrees(side_rad)
    row = np.floor((lat + 90) / side)
    to_equator = np.clip(np.minimum(np.abs(row * side - 90), np.abs((row + 1) * side - 90)), 0, 90)
    to_equator[(row * side < 90) & ((row + 1) * side > 90)] = 0
    column = np.floor((lon + 180) * np.cos(np.radians(to_equator)) / side)
    return (row * (column.max() + 1) + column).astype(np.int64)


def _choose(places: NDArray[np.float64], weights: NDArray[np.int64], reach: float) -> NDArray[np.int64]:
    """Return the places that the greedy choice by weight takes, of which no two are within reach."""
    rank = np.empty(len(places), np.int64)
    rank[np.lexsort((*places.T, -weights))] = np.arange(len(places))
    pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
    first, second = np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs.T, pairs.T[::-1])  # first goes before second
    undecided, taken = np.ones(len(places), bool), np.zeros(len(places), bool)
    while undecided.any():
        beaten = np.zeros(len(places), bool)
        beaten[second] = True
        new = undecided & ~beaten
        taken |= new
        withdrawn = np.zeros(len(places), bool)
        withdrawn[second[new[first]]] = True
        undecided &= ~(new | withdrawn)
        alive = undecided[first] & undecided[second]
        first, second = first[alive], second[alive]
    return np.flatnonzero(taken)


def _nearest(
    places: NDArray[np.float64], centres: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return chord and position of the nearest centre; infinity and the number of centres where none is in reach."""
    return cKDTree(centres).query(places, distance_upper_bound=np.nextafter(reach, np.inf), workers=-1)
