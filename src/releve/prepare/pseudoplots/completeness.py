"""How complete the list of each pseudo-plot is, judged by its repeated visits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def estimate_coverage(visits: ArrayLike, incidences: ArrayLike, once: ArrayLike, twice: ArrayLike) -> NDArray:
    """Return the sample coverage of each list: the share of all detections that go to species on the list.

    ``1 - coverage`` estimates the chance that the next detection is of a species the list calls absent:

        C = 1 - Q1 / U * (m - 1) Q1 / ((m - 1) Q1 + 2 Q2)

    Where no species was met exactly twice (Q2 = 0) this is Turing's 1 - Q1 / U. The published correction for that
    case, which puts (Q1 - 1) for Q1 and 2 for 2 Q2, would give 2/3 to two visits that share no species; here they
    have 0.

    Parameters
    ----------
    visits
        (P,) m, the visits of each plot.
    incidences
        (P,) U, the pairs of species and visit.
    once, twice
        (P,) Q1 and Q2, the species met on exactly one and exactly two visits.

    Returns
    -------
    NDArray
        (P,) float64 in 0…1; NaN for a single visit, which says nothing about what it missed.

    References
    ----------
    Good 1953, doi:10.1093/biomet/40.3-4.237; Chao & Jost 2012, doi:10.1890/11-1952.1; its form for
    incidence data in Chao et al. 2014, doi:10.1890/13-0133.1.

    Examples
    --------
    Four visits, eight detections: three species met once, one twice, one three times.

    >>> estimate_coverage([4], [8], [3], [1]).round(4).tolist()
    [0.6932]
    """
    m, u, q1, q2 = (np.asarray(values, float) for values in (visits, incidences, once, twice))
    expected = (m - 1) * q1 + 2 * q2
    seen_again = np.divide((m - 1) * q1, expected, out=np.zeros_like(expected), where=expected > 0)
    return np.where(m > 1, 1 - q1 / np.maximum(u, 1) * seen_again, np.nan)


def estimate_richness(visits: ArrayLike, species: ArrayLike, once: ArrayLike, twice: ArrayLike) -> NDArray:
    """Return Chao2, a lower bound of the number of species, seen and unseen, in its bias-corrected form.

        S + (m - 1) / m * Q1 (Q1 - 1) / (2 (Q2 + 1))

    Parameters
    ----------
    visits
        (P,) m, the visits of each plot.
    species
        (P,) S, the species met.
    once, twice
        (P,) Q1 and Q2, the species met on exactly one and exactly two visits.

    Returns
    -------
    NDArray
        (P,) float64, at least S; NaN for a single visit.

    References
    ----------
    Chao 1987, doi:10.2307/2531532; Chao 2005, Species richness estimation, in Encyclopedia of Statistical Sciences.

    Examples
    --------
    >>> estimate_richness([4], [5], [3], [1]).tolist()  # 5 + 3/4 * 3 * 2 / (2 * 2)
    [6.125]
    """
    m, s, q1, q2 = (np.asarray(values, float) for values in (visits, species, once, twice))
    return np.where(m > 1, s + (m - 1) / np.maximum(m, 1) * q1 * (q1 - 1) / (2 * (q2 + 1)), np.nan)


def trust_in_silence(coverage: ArrayLike, visits: ArrayLike) -> NDArray:
    """Return how far the species that are not on a list may be taken as absent: C (m - 1) / m.

    A weight for a pseudo-plot's negatives: that of ``records.trust = "coverage"``; by default training weighs them by
    richness, see ``releve.train.rows.weigh_silence``. Coverage is the chance that a further detection would be of
    a species already listed, so 1 - C is the chance that it contradicts the list. It is estimated from m visits;
    the factor (m - 1) / m, as in Chao2, takes it to 0 where one visit leaves nothing to compare, and keeps two or
    three visits that happen to agree from passing as a full survey.

    Parameters
    ----------
    coverage
        (P,) 0…1; NaN is taken as 0.
    visits
        (P,) m.

    Returns
    -------
    NDArray
        (P,) float64 in 0…1, rising with both.

    Examples
    --------
    >>> trust_in_silence([np.nan, 0.8, 0.8], [1, 2, 10]).round(2).tolist()
    [0.0, 0.4, 0.72]
    """
    m = np.asarray(visits, float)
    return np.nan_to_num(np.asarray(coverage, float)) * (m - 1) / np.maximum(m, 1)
