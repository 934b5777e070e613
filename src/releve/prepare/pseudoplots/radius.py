"""Clusters of places with a bound on their size, in near-linear time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from releve.geo import EARTH_RADIUS_KM, unit_vectors
from releve.prepare.pseudoplots.keys import combine, run_starts

EARTH_RADIUS_M = 1000 * EARTH_RADIUS_KM


def cluster_places(
    lon: NDArray[np.float64], lat: NDArray[np.float64], radius_m: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the cluster of each place, and the clusters' centres; no place is farther than the radius from its centre.

    Centres are chosen densest first, none within the radius of another of the same round:

    1. Places are put into small cubes (side = radius / sqrt 3, so that a cube's places all lie within the radius of
       their mean); each cube proposes the mean of its places, with their number as its priority.
    2. A proposal becomes a centre if none of higher priority lies within the radius. Those within the radius of a
       new centre are withdrawn; this is repeated until none is left (the greedy choice in order of priority, done
       for all neighbourhoods at once).
    3. Places farther than the radius from all centres start again at 1. A new centre covers at least its own cube,
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
    reach = 2 * np.sin(min(radius_m / EARTH_RADIUS_M, np.pi) / 2)  # the chord of the radius
    # in a canonical order, so that sums do not depend on the order given
    order = np.lexsort((lat, lon))
    starts = run_starts_of_places(lon[order], lat[order])
    counts = np.diff(np.append(starts, len(order)))
    vectors = unit_vectors(lon[order[starts]], lat[order[starts]])
    centres = np.empty((0, 3))
    left = np.arange(len(vectors))
    while len(left):
        proposals, weights = _propose(vectors[left], counts[left], reach)
        new = proposals[_choose(proposals, weights, reach)]
        centres = np.concatenate([centres, new])
        left = left[~np.isfinite(_nearest(vectors[left], new, reach)[0])]
    _, nearest = _nearest(vectors, centres, reach)
    used, cluster = np.unique(nearest, return_inverse=True)
    found = np.empty(len(lon), np.int64)
    found[order] = np.repeat(cluster, counts)
    return found, centres[used]


def run_starts_of_places(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return where each run of equal places begins."""
    new = np.ones(len(lon), bool)
    new[1:] = (lon[1:] != lon[:-1]) | (lat[1:] != lat[:-1])
    return np.flatnonzero(new)


def _propose(
    vectors: NDArray[np.float64], counts: NDArray[np.int64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean place of each occupied cube, on the sphere, and the records in it."""
    # a little smaller, since moving the mean out to the sphere may take it a little farther from the cube's corner
    side = 0.99 * reach / np.sqrt(3)
    cubes = np.floor((vectors + 1) / side).astype(np.int64)
    codes = combine(*cubes.T)
    order = np.argsort(codes, kind="stable")
    starts = run_starts(codes[order])
    sums = np.add.reduceat(vectors[order] * counts[order, None], starts)
    means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return means, np.add.reduceat(counts[order], starts)


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
