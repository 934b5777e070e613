"""A decision is fitted on validation rows, written as JSON and gives the same lists when read again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from releve.decide import fit_calibration
from releve.decide.decision import DecideConfig, Decision, KindDecision, fit_decision
from releve.decide.rules import FITS, RULES
from releve.errors import ConfigError
from releve.metrics import Lists, score_sets

Logits = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def logits() -> Logits:
    return {"network": 1.5 * torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) - 1}


@pytest.fixture(scope="module")
def truth(logits: Logits) -> Lists:
    """Sets drawn with half the slope that the logits claim, and an intercept of .3."""
    drawn = torch.rand(200, 12, generator=torch.Generator().manual_seed(1)) < torch.sigmoid(
        0.5 * logits["network"] + 0.3
    )
    return Lists.from_rows([row.nonzero().flatten().tolist() or [0] for row in drawn])


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_its_setting_and_its_lists_through_json(rule: str, logits: Logits, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig(rule=rule))
    again = Decision.model_validate_json(decision.model_dump_json())
    assert again == decision
    probs = decision.probs(logits)
    assert torch.equal(again.probs(logits), probs)
    lists, reread = decision.lists(probs), again.lists(probs)
    np.testing.assert_array_equal(lists.indptr, reread.indptr)
    np.testing.assert_array_equal(lists.indices, reread.indices)
    assert lists.num_surveys == 200


@pytest.mark.parametrize("rule", RULES)
def test_the_setting_is_the_one_that_the_rules_own_fit_finds(rule: str, logits: Logits, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig(rule=rule))
    expected = FITS[rule](decision.probs(logits), truth)
    if expected is None:
        assert decision.setting is None
    else:
        np.testing.assert_array_equal(np.asarray(decision.setting), expected)
    assert isinstance(decision.setting, list) == (rule == "species_threshold")


def test_calibration_is_fitted_first_unless_it_is_turned_off(logits: Logits, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig())
    fitted, found = fit_calibration(logits["network"], truth), decision.kinds["network"]
    assert (found.slope, found.intercept, found.share) == (fitted.slope, fitted.intercept, 1.0)
    assert found.slope == pytest.approx(0.5, abs=0.1)
    expected = torch.sigmoid(found.slope * logits["network"] + found.intercept)
    torch.testing.assert_close(decision.probs(logits), expected)
    plain = fit_decision(logits, truth, DecideConfig(calibrate=False))
    assert plain.kinds == {"network": KindDecision(slope=1.0, intercept=0.0, share=1.0)}


def test_two_kinds_are_calibrated_apart_and_share_by_what_each_knows(logits: Logits, truth: Lists) -> None:
    noise = torch.randn(200, 12, generator=torch.Generator().manual_seed(2))
    both = logits | {"forest": noise}
    decision = fit_decision(both, truth, DecideConfig())
    shares = {kind: found.share for kind, found in decision.kinds.items()}
    assert shares["network"] >= 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    parts = [shares[kind] * decision.calibrated(kind, values) for kind, values in both.items()]
    torch.testing.assert_close(decision.probs(both), parts[0] + parts[1])
    dense = torch.from_numpy(truth.to_csr(12).toarray()).float()
    a, b = (decision.calibrated(kind, values) for kind, values in both.items())
    losses = [torch.nn.functional.binary_cross_entropy(k / 10 * a + (1 - k / 10) * b, dense).item() for k in range(11)]
    assert shares["network"] == np.argmin(losses) / 10
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_a_fitted_length_beats_every_other_length_on_its_rows(logits: Logits, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig(rule="top_k"))
    probs = decision.probs(logits)
    scores = [
        score_sets(decision.model_copy(update={"setting": float(k)}).lists(probs), truth, 12).sample_f1
        for k in range(1, 13)
    ]
    assert decision.setting == 1 + int(np.argmax(scores))


def test_unknown_rules_are_refused(logits: Logits) -> None:
    with pytest.raises(ValidationError):
        DecideConfig(rule="coin")
    with pytest.raises(ConfigError, match=r"unknown rule 'coin'.*expected_f1"):
        Decision(rule="coin", setting=None, kinds={}).lists(torch.sigmoid(logits["network"]))


def test_the_share_of_a_kind_that_says_nothing_is_small_and_shares_sum_to_one(logits: Logits, truth: Lists) -> None:
    noise = torch.randn(200, 12, generator=torch.Generator().manual_seed(5))
    both = {"network": logits["network"], "forest": noise}
    decision = fit_decision(both, truth, DecideConfig())
    shares = {kind: found.share for kind, found in decision.kinds.items()}
    assert shares["network"] >= 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    expected = shares["network"] * decision.calibrated("network", both["network"]) + shares[
        "forest"
    ] * decision.calibrated("forest", noise)
    torch.testing.assert_close(decision.probs(both), expected)


def test_the_share_is_the_likeliest_of_the_grid_against_a_dense_reference(logits: Logits, truth: Lists) -> None:
    other = logits["network"] + 2 * torch.randn(200, 12, generator=torch.Generator().manual_seed(6))
    both = {"network": logits["network"], "forest": other}
    decision = fit_decision(both, truth, DecideConfig())
    dense = torch.from_numpy(truth.to_csr(12).toarray()).float()
    a, b = decision.calibrated("network", both["network"]), decision.calibrated("forest", other)
    losses = [float(torch.nn.functional.binary_cross_entropy(k / 10 * a + (1 - k / 10) * b, dense)) for k in range(11)]
    assert decision.kinds["network"].share == int(np.argmin(losses)) / 10
