"""What is seen on a plot foretells the rest: by hand, against a world whose truth is known, and in no way otherwise."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from releve.decide.calibration import fit_calibration, to_logits
from releve.decide.companions import Companions, fit_companions, keep_aside, read_companions, write_companions
from releve.errors import TableError
from releve.lists import Lists

PHI, QUANTILE = NormalDist().cdf, NormalDist().inv_cdf
NEVER = torch.tensor([0.0, -50.0, 0.0])
"""Thinning that takes no notice of what is not among the seen."""


def companions_of(vectors: list[float], thinning: torch.Tensor = NEVER, sharpness: float = 0.0) -> Companions:
    return Companions(
        torch.tensor(vectors, dtype=torch.float32)[:, None], torch.zeros(1), thinning, torch.tensor([sharpness])
    )


@pytest.mark.parametrize(
    ("vectors", "prob", "seen", "expected"),
    [
        # m = 0, C = 1, V = 1 / (1 + 1), v = 1/2 (1 - 0); Phi^-1(1/2) = 0
        ([1, -1], 1 / 2, [0], {1: PHI(-0.5 / 1.5**0.5)}),
        # m = 1/3, C = 1 - 1/9, V = 1 / (1 + 2 * 8/9) = 9/25, v = 9/25 (2 - 2/3) = 0.48
        ([1, 1, -1], 1 / 3, [0, 1], {2: PHI((QUANTILE(1 / 3) * 2**0.5 - 0.48) / 1.36**0.5)}),
        # all alike: whichever is seen says nothing
        ([2, 2, 2], 0.2, [1], {0: 0.2, 2: 0.2}),
        # another kind of plant: no message for a species without a vector
        ([1, -1, 0], 0.2, [0], {2: 0.2}),
    ],
)
def test_a_worked_case(vectors: list[float], prob: float, seen: list[int], expected: dict[int, float]) -> None:
    found = companions_of(vectors).update(torch.full((1, len(vectors)), prob), Lists.from_rows([seen]))[0].tolist()
    assert [found[i] for i in seen] == [1.0] * len(seen)
    assert {i: found[i] for i in expected} == pytest.approx(expected, abs=1e-6)


def test_what_is_not_among_the_seen_is_less_likely_the_more_of_the_expected_is_seen() -> None:
    """Odds of 1/3 times exp(ln 2) / (1 + exp(0 + 1 ln(n / R))), R = 4/4: 2/2 for one seen, 2/3 for two."""
    thinning = torch.tensor([np.log(2), 0.0, 1.0])
    found = companions_of([0.0] * 4, thinning).update(torch.full((2, 4), 0.25), Lists.from_rows([[0], [0, 3]]))
    odds = found / (1 - found)
    assert odds[0, 1:].tolist() == pytest.approx([1 / 3] * 3, rel=1e-5)
    assert odds[1, 1:3].tolist() == pytest.approx([2 / 9] * 2, rel=1e-5)


def test_the_logits_of_the_rest_are_drawn_out_by_a_power_of_the_number_seen() -> None:
    """Vectors of 0 leave the odds of 1/3 as they are; three seen, power log 2 / log 3: logits twice as far."""
    sharp = companions_of([0.0] * 5, sharpness=np.log(2) / np.log(3))
    found = sharp.update(torch.full((2, 5), 0.25), Lists.from_rows([[0], [0, 1, 2]]))
    assert found[0, 1:].tolist() == pytest.approx([1 / 4] * 4) and found[1, 3:].tolist() == pytest.approx([1 / 10] * 2)


def test_where_nothing_is_seen_nothing_changes_and_the_others_are_as_if_alone() -> None:
    rng = np.random.default_rng(0)
    probs = torch.from_numpy(rng.beta(0.3, 3, (5, 40))).float()
    companions = Companions(
        torch.from_numpy(rng.normal(size=(40, 3))).float(), torch.ones(1), torch.zeros(3), torch.ones(1)
    )
    seen = Lists.from_rows([[3, 1, 7], [], [39], [], [0, 2, 4, 5]])
    kept, told = np.array([1, 3]), np.array([0, 2, 4])
    found, before = companions.update(probs, seen), probs.clone()
    assert torch.equal(found[kept], before[kept]) and torch.equal(probs, before)
    assert companions.update(probs, Lists.from_rows([[]] * 5)) is probs
    assert (found[told] != before[told]).all()
    for i in range(5):
        alone = companions.update(probs[i : i + 1], seen.take(np.array([i])))
        torch.testing.assert_close(alone[0], found[i], rtol=1e-5, atol=1e-7)


def meadows_and_woods(num_surveys: int, seed: int) -> tuple[torch.Tensor, Lists, np.ndarray]:
    """Return equal chances, and species: ten grow on every third meadow and every 30th wood, ten the other way round.

    Half of the plots are meadows, which no covariate says: each species' chance is 11/60 to who does not know.
    """
    rng = np.random.default_rng(seed)
    is_meadow = rng.random(num_surveys) < 0.5
    chance = np.where(is_meadow[:, None] == (np.arange(20) < 10), 1 / 3, 1 / 30)
    truth = Lists.from_pairs(*np.nonzero(rng.random(chance.shape) < chance), num_surveys)
    return torch.full((num_surveys, 20), 11 / 60), truth, np.arange(num_surveys) // 10


def test_what_grows_together_is_learned_and_foretells_the_rest_with_the_right_chances() -> None:
    companions = fit_companions(*meadows_and_woods(1500, 0))
    assert companions is not None
    probs, truth, _ = meadows_and_woods(2000, 1)
    rng = np.random.default_rng(2)
    shown = rng.random(len(truth.indices)) < rng.random(2000)[truth.surveys()]
    seen = Lists.from_pairs(truth.surveys()[shown], truth.indices[shown], 2000)
    told = seen.lengths() > 0
    is_seen, is_there = (lists.to_csr(20).toarray()[told] > 0 for lists in (seen, truth))
    rest = companions.update(probs, seen)[told]
    num_of_each_B2 = is_seen.reshape(-1, 2, 10).sum(axis=2)
    like_most = (num_of_each_B2[:, :1] > num_of_each_B2[:, 1:]) == (np.arange(20) < 10)
    goes_with, shuns = like_most & ~is_seen, ~like_most & ~is_seen
    assert rest[goes_with].mean() > 0.12 and rest[shuns].mean() < 0.05
    for cells in (goes_with, shuns):
        assert rest[cells].mean() == pytest.approx(is_there[cells].mean(), abs=0.02)
    hidden = torch.from_numpy(~is_seen)
    cells, there = to_logits(rest[hidden])[:, None], is_there[~is_seen]
    fitted = fit_calibration(cells, Lists.from_rows([[0] if x else [] for x in there]))
    assert fitted.slope == pytest.approx(1, abs=0.12) and fitted.intercept == pytest.approx(0, abs=0.15)


def test_species_that_have_nothing_to_do_with_each_other_say_nothing_of_each_other() -> None:
    rng = np.random.default_rng(0)
    probs = torch.full((300, 30), 0.2)
    truth = Lists.from_pairs(*np.nonzero(rng.random((300, 30)) < 0.2), 300)
    companions = fit_companions(probs, truth, np.arange(300) // 10)
    assert companions is not None
    found = companions.update(probs[:200], Lists.from_rows([[i % 30] for i in range(200)]))
    others = found[found < 1]
    assert others.std() < 0.02 * others.mean()


def test_few_surveys_tell_little_and_single_species_nothing() -> None:
    few, many = (fit_companions(*meadows_and_woods(number, 3)) for number in (20, 1500))
    assert few is not None and many is not None
    assert few.vectors_SK.norm() < 0.2 * many.vectors_SK.norm()
    assert (
        fit_companions(torch.full((50, 3), 0.3), Lists.from_rows([[i % 3] for i in range(50)]), np.arange(50)) is None
    )


def test_blocks_are_kept_aside_whole_until_a_fifth_of_the_surveys_is_reached() -> None:
    blocks = torch.arange(200) // 7
    kept = keep_aside(blocks, torch.Generator().manual_seed(1))
    assert {*blocks[kept].tolist()}.isdisjoint(blocks[~kept].tolist()) and 40 <= kept.sum() < 47
    assert keep_aside(torch.zeros(5), torch.Generator()).all()


def test_chances_of_nought_and_one_stay_chances() -> None:
    probs = torch.tensor([[0.0, 1.0, 0.3, 1e-30]])
    found = companions_of([2.0, -2.0, 1.0, 3.0]).update(probs, Lists.from_rows([[2]]))
    assert found.isfinite().all() and 0 <= found[0, 0] < 1e-4 and found[0, 1] > 0.99 and found[0, 2] == 1


def test_the_same_surveys_and_seed_give_the_same_and_what_is_written_is_read(tmp_path: Path) -> None:
    one, again = (fit_companions(*meadows_and_woods(60, 0), seed=4) for _ in range(2))
    assert one is not None and again is not None
    write_companions(tmp_path / "companions.safetensors", one)
    read = read_companions(tmp_path / "companions.safetensors")
    for name, values in vars(one).items():
        assert torch.equal(values, getattr(again, name)) and torch.equal(values, getattr(read, name))


def test_other_surveys_or_species_are_refused() -> None:
    companions, probs = companions_of([1.0, -1.0]), torch.full((2, 2), 0.5)
    with pytest.raises(
        TableError, match=r"seen on 1 surveys, and probabilities of \(2, 2\). expected the same surveys"
    ):
        companions.update(probs, Lists.from_rows([[0]]))
    with pytest.raises(TableError, match=r"probabilities of \(2, 3\). expected the same surveys, and 2 species"):
        companions.update(torch.full((2, 3), 0.5), Lists.from_rows([[0], []]))
    with pytest.raises(TableError, match="species index 2 was seen. expected under 2"):
        companions.update(probs, Lists.from_rows([[0], [2]]))
