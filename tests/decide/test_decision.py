"""A decision is fitted on validation rows, written as JSON and gives the same lists when read again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from releve.decide import fit_calibration
from releve.decide.decision import DecideConfig, Decision, fit_decision
from releve.decide.rules import FITS, RULES
from releve.errors import ConfigError
from releve.metrics import Lists, score_sets


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return 1.5 * torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) - 1


@pytest.fixture(scope="module")
def truth(logits: torch.Tensor) -> Lists:
    """Sets drawn with half the slope that the logits claim, and an intercept of .3."""
    drawn = torch.rand(200, 12, generator=torch.Generator().manual_seed(1)) < torch.sigmoid(0.5 * logits + 0.3)
    return Lists.from_rows([row.nonzero().flatten().tolist() or [0] for row in drawn])


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_keeps_its_setting_and_its_lists_through_json(rule: str, logits: torch.Tensor, truth: Lists) -> None:
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
def test_the_setting_is_the_one_that_the_rules_own_fit_finds(rule: str, logits: torch.Tensor, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig(rule=rule))
    expected = FITS[rule](decision.probs(logits), truth)
    if expected is None:
        assert decision.setting is None
    else:
        np.testing.assert_array_equal(np.asarray(decision.setting), expected)
    assert isinstance(decision.setting, list) == (rule == "species_threshold")


def test_calibration_is_fitted_first_unless_it_is_turned_off(logits: torch.Tensor, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig())
    fitted = fit_calibration(logits, truth)
    assert (decision.slope, decision.intercept) == (fitted.slope, fitted.intercept)
    assert decision.slope == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(decision.probs(logits), torch.sigmoid(decision.slope * logits + decision.intercept))
    plain = fit_decision(logits, truth, DecideConfig(calibrate=False))
    assert (plain.slope, plain.intercept) == (1.0, 0.0)


def test_a_fitted_length_beats_every_other_length_on_its_rows(logits: torch.Tensor, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig(rule="top_k"))
    probs = decision.probs(logits)
    scores = [
        score_sets(decision.model_copy(update={"setting": float(k)}).lists(probs), truth, 12).sample_f1
        for k in range(1, 13)
    ]
    assert decision.setting == 1 + int(np.argmax(scores))


def test_unknown_rules_are_refused(logits: torch.Tensor) -> None:
    with pytest.raises(ValidationError):
        DecideConfig(rule="coin")
    with pytest.raises(ConfigError, match=r"unknown rule 'coin'.*expected_f1"):
        Decision(rule="coin", setting=None, slope=1, intercept=0).lists(torch.sigmoid(logits))
