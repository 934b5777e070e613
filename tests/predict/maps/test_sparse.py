from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from releve.predict.maps.sparse import (
    HIGHEST,
    LIKELY,
    LOWEST,
    NUM_CODES,
    PROBS_OF_CODES,
    cut_for,
    likely_species,
    places_of_species,
    to_codes,
)

STEP = (np.log(HIGHEST / (1 - HIGHEST)) - np.log(LOWEST / (1 - LOWEST))) / (NUM_CODES - 1)


def logit(probs: NDArray) -> NDArray[np.float64]:
    probs = probs.astype(np.float64)
    return np.log(probs / (1 - probs))


def test_codes_stand_for_equal_steps_of_logits_between_the_named_ends() -> None:
    assert PROBS_OF_CODES[0] == 0 and PROBS_OF_CODES[1] == np.float32(LOWEST)
    assert PROBS_OF_CODES[255] == np.float32(HIGHEST)
    np.testing.assert_allclose(np.diff(logit(PROBS_OF_CODES[1:])), STEP, rtol=1e-3)


def test_every_code_is_that_of_its_own_probability() -> None:
    assert to_codes(PROBS_OF_CODES[1:]).tolist() == list(range(1, 256))


def test_a_likelier_species_never_has_a_lower_code() -> None:
    probs = np.sort(np.concatenate([np.logspace(-9, 0, 40_000), 1 - np.logspace(-9, -1, 40_000)])).astype(np.float32)
    codes = to_codes(probs)
    assert (np.diff(codes.astype(int)) >= 0).all() and (codes[0], codes[-1]) == (1, 255)


def test_the_code_is_the_nearest_on_the_scale_of_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.uniform(logit(np.array(LOWEST)), logit(np.array(HIGHEST)), 50_000)
    probs = (1 / (1 + np.exp(-logits))).astype(np.float32)
    off = np.abs(logit(PROBS_OF_CODES[to_codes(probs)]) - logit(probs))
    # Eight of 23 bits are left out: where two codes meet, a logit is off by 2^-16 / (1 - p) at most.
    assert (off <= STEP / 2 + 2**-16 / (1 - probs)).all()
    nearest = np.abs(logit(PROBS_OF_CODES[1:])[None] - logit(probs[:500])[:, None]).argmin(axis=1) + 1
    assert np.mean(nearest == to_codes(probs[:500])) > 0.98


def test_probabilities_beyond_the_ends_take_the_ends_codes() -> None:
    assert to_codes(np.array([0.0, 1e-30, 5e-5, 0.9999, 1.0], np.float32)).tolist() == [1, 1, 1, 255, 255]


def test_likely_species_are_sorted_from_likely_to_unlikely_and_equals_by_their_number() -> None:
    probs = np.array([[0.02, 0.5, 0.5, 1.0, 0.009, 0.5], [0.0] * 6, [0.01, 0.01, 0.01, 0.0, 0.0, 0.01]], np.float32)
    found = likely_species(probs)
    assert found.counts.tolist() == [5, 0, 4] and found.starts.tolist() == [0, 5, 5, 9]
    assert found.species.tolist() == [3, 1, 2, 5, 0, 0, 1, 2, 5]
    assert found.probs.tolist() == [np.float32(p) for p in (1.0, 0.5, 0.5, 0.5, 0.02, 0.01, 0.01, 0.01, 0.01)]


def test_likely_species_are_those_that_a_stable_sort_gives() -> None:
    rng = np.random.default_rng(1)
    probs = np.round(rng.random((300, 40)) ** 6, 3).astype(np.float32)  # many ties
    found = likely_species(probs)
    for cell in range(300):
        order = np.argsort(-probs[cell], kind="stable")
        order = order[probs[cell][order] >= np.float32(LIKELY)]
        at = slice(found.starts[cell], found.starts[cell + 1])
        assert found.species[at].tolist() == order.tolist()
        assert found.probs[at].tolist() == probs[cell][order].tolist()


def test_places_are_the_cells_from_the_cut_on() -> None:
    probs = np.random.default_rng(2).random((200, 30)).astype(np.float32) ** 9
    for cut in (LOWEST, 0.004, LIKELY):
        places = places_of_species(probs, cut)
        cells, species = np.nonzero(probs >= np.float32(cut))
        assert places.counts.tolist() == np.bincount(cells, minlength=200).tolist()
        assert places.species.tolist() == species.tolist()
        assert places.codes.tolist() == to_codes(probs[cells, species]).tolist()


def test_a_cut_holds_its_share_and_the_next_higher_one_does_not() -> None:
    """Of .9, .05 and 50 times .0004 the first two are 97.9 %: the cut must reach .0004, without the 50 it need not."""
    many = np.array([[0.9, 0.05, *[0.0004] * 50]], np.float32)
    cut = cut_for(many)
    assert cut <= 0.0004 * 1.035 and to_codes(np.array([cut, 0.0004], np.float32)).tolist() == [23, 23]
    assert LIKELY / np.exp(STEP) < cut_for(many[:, :2]) <= LIKELY


@pytest.mark.parametrize("seed", range(5))
def test_what_a_cut_holds_is_99_percent_unless_it_is_the_lowest(seed: int) -> None:
    probs = np.random.default_rng(seed).random((64, 400)).astype(np.float32) ** (4 + 8 * seed)
    cut = cut_for(probs)
    codes, mass = to_codes(probs.ravel()), probs.ravel().astype(float)
    at = int(to_codes(np.array([cut], np.float32))[0])
    assert PROBS_OF_CODES[at] == np.float32(cut) and LOWEST * 0.999 <= cut <= LIKELY
    if at > 1:
        assert mass[codes >= at].sum() >= 0.99 * mass.sum()
    if cut < LIKELY / np.exp(STEP):
        assert mass[codes > at].sum() < 0.99 * mass.sum()


def test_a_cut_of_nothing_but_unlikely_species_is_the_lowest_probability() -> None:
    assert cut_for(np.full((3, 8), 1e-6, np.float32)) == pytest.approx(LOWEST)
    assert LOWEST * 0.999 <= cut_for(np.zeros((3, 8), np.float32)) <= LIKELY
