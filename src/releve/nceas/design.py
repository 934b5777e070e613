"""Turn a region into what its models see: scaled covariates, place, and the background of every species."""

# N sites, S species, F features

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from releve.nceas.data import Region, Sites

RANDOM_SITES = 150  # this, the next and the turn were chosen with test regions in view: see CHOSEN_ON in entry.py
LARGEST_SHARE = 0.3
TURN = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2)  # by 45 degrees: trees and hinges also cut along diagonals


@dataclass(frozen=True, eq=False)
class Design:
    """The matrices of one region.

    Parameters
    ----------
    sites_NF, background_NF, tests
        Features of the presence-only sites, of the random background and of the plots of each test set: continuous
        covariates as quantiles in -1 to 1, then 0/1 indicators of the codes, then the place, as
        two coordinates and the same turned by 45 degrees.
    num_continuous, num_place
        How many of the first and of the last features are continuous covariates and coordinates.
    found_NS, site_group, species_group
        As in the region.
    random_share_G
        (groups,) share of random sites in the background of a group's species.
    """

    sites_NF: np.ndarray
    background_NF: np.ndarray
    tests: tuple[np.ndarray, ...]
    num_continuous: int
    num_place: int
    found_NS: np.ndarray
    site_group: np.ndarray
    species_group: np.ndarray
    random_share_G: np.ndarray

    def target_group(self, species: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows where the species was found, and the other sites of its group."""
        own = self.site_group == self.species_group[species]
        found = self.found_NS[:, species]
        return np.flatnonzero(own & found), np.flatnonzero(own & ~found)


def make_design(region: Region, *, with_place: bool, random_share: float | None = None) -> Design:
    """Return the matrices of a region.

    Quantiles are those of background and presence-only sites together, so that both a wide background and the
    places where the records lie are spread over the scale. A value beyond them is -1 or 1: no extrapolation.

    Parameters
    ----------
    with_place
        Whether the coordinates are features.
    random_share
        Share of random sites in every background; by default see :func:`random_shares`.
    """
    reference = np.concatenate([region.background.continuous_NC, region.sites.continuous_NC])
    ordered = np.sort(reference, axis=0)
    centre, scale = region.sites.xy_km.mean(0), np.abs(region.sites.xy_km - region.sites.xy_km.mean(0)).max()

    num_groups = len(region.groups)
    if random_share is None:
        shares = random_shares(np.bincount(region.site_group, minlength=num_groups))
    else:
        shares = np.full(num_groups, random_share)

    def features(sites: Sites) -> np.ndarray:
        blocks = [_quantiles(ordered, sites.continuous_NC)]
        blocks += [
            codes[:, None] == np.arange(num) for codes, num in zip(sites.codes_NK.T, region.num_codes, strict=True)
        ]
        if with_place:
            place = (sites.xy_km - centre) / max(scale, 1e-9)
            blocks.append(np.concatenate([place, place @ TURN], axis=1))
        return np.concatenate(blocks, axis=1).astype(np.float32)

    return Design(
        sites_NF=features(region.sites),
        background_NF=features(region.background),
        tests=tuple(features(test.sites) for test in region.tests),
        num_continuous=len(region.covariates),
        num_place=4 * with_place,
        found_NS=region.found_NS,
        site_group=region.site_group,
        species_group=region.species_group,
        random_share_G=shares,
    )


def random_shares(num_sites_G: np.ndarray) -> np.ndarray:
    """Return the share of random sites in the background of each group's species.

    The target group's sites tell where recorders went; with few of them that is itself uncertain, and the background
    is drawn towards the whole region, as by ``RANDOM_SITES`` sites known beforehand: ``m / (n + m)``, at most
    ``LARGEST_SHARE``.

    Examples
    --------
    >>> random_shares(np.array([150, 1350, 14850])).round(2).tolist()
    [0.3, 0.1, 0.01]
    """
    return np.minimum(RANDOM_SITES / (num_sites_G + RANDOM_SITES), LARGEST_SHARE)


def _quantiles(ordered_NC: np.ndarray, values_NC: np.ndarray) -> np.ndarray:
    """Return the middle rank of each value among the ordered reference, from -1 to 1."""
    out = np.empty(values_NC.shape)
    for c, column in enumerate(values_NC.T):
        below = np.searchsorted(ordered_NC[:, c], column, "left")
        up_to = np.searchsorted(ordered_NC[:, c], column, "right")
        out[:, c] = (below + up_to) / len(ordered_NC) - 1
    return out
