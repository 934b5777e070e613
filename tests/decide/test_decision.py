"""A decision is fitted on validation rows, written as JSON and gives the same lists when read again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from releve.config import make_config
from releve.decide.calibration import Calibration, fit_calibration
from releve.decide.config import DecideConfig
from releve.decide.decision import Decision, KindDecision, fit_decision
from releve.decide.pool import draw_out
from releve.decide.rules import FITS, RULES
from releve.decide.weights import fit_weights
from releve.errors import ConfigError, TableError
from releve.lists import Lists
from releve.metrics.sets import score_sets

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
    decision = fit_decision(logits, truth, DecideConfig(rule=rule, coverage=0.6))
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
    decision = fit_decision(logits, truth, DecideConfig(rule=rule, coverage=0.6))
    expected = FITS[rule](decision.probs(logits), truth, 0.6)
    if expected is None:
        assert decision.setting is None
    else:
        np.testing.assert_array_equal(np.asarray(decision.setting), expected)
    assert isinstance(decision.setting, list) == (rule == "species_threshold")


def test_calibration_is_fitted_first_unless_it_is_turned_off(logits: Logits, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig())
    found = decision.kinds["network"]
    assert (found.calibration, found.share) == (fit_calibration(logits["network"], truth), 1.0)
    assert found.calibration.slope == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(decision.probs(logits), found.calibration.apply(logits["network"]))
    plain = fit_decision(logits, truth, DecideConfig(calibration="none"))
    assert plain.kinds == {"network": KindDecision(calibration=Calibration())}


def test_several_kinds_are_drawn_out_and_survive_json(logits: Logits, truth: Lists) -> None:
    both = logits | {"forest": 2 * logits["network"] + torch.randn(200, 12, generator=torch.Generator().manual_seed(3))}
    decision = fit_decision(both, truth, DecideConfig())
    fits = [fit_calibration(values, truth) for values in both.values()]
    shares = fit_weights(list(both.values()), fits, truth).tolist()
    expected = draw_out(list(both.values()), fits, shares, truth)
    assert [found.calibration for found in decision.kinds.values()] == expected != fits
    again = Decision.model_validate_json(decision.model_dump_json())
    assert again == decision
    assert torch.equal(again.probs(both), decision.probs(both))


def test_kinds_are_calibrated_apart_and_share_by_what_each_knows(logits: Logits, truth: Lists) -> None:
    generator = torch.Generator().manual_seed(2)
    noise = {f"run/{i}": torch.randn(200, 12, generator=generator) for i in range(4)}
    every = logits | noise
    decision = fit_decision(every, truth, DecideConfig())
    shares = {kind: found.share for kind, found in decision.kinds.items()}
    calibrations = [fit_calibration(values, truth) for values in every.values()]
    assert list(shares.values()) == fit_weights(list(every.values()), calibrations, truth).tolist()
    assert all(0.1 <= shares[kind] <= 0.3 for kind in noise)  # of five kinds, half of the weight is equal at 200 rows
    assert shares["network"] >= 0.45
    assert sum(shares.values()) == pytest.approx(1.0)
    expected = sum(shares[kind] * decision.calibrated(kind, values) for kind, values in every.items())
    torch.testing.assert_close(decision.probs(every), expected)
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_a_fitted_length_beats_every_other_length_on_its_rows(logits: Logits, truth: Lists) -> None:
    decision = fit_decision(logits, truth, DecideConfig(rule="top_k"))
    probs = decision.probs(logits)
    scores = [
        score_sets(decision.model_copy(update={"setting": float(k)}).lists(probs), truth, 12).sample_f1
        for k in range(1, 13)
    ]
    assert decision.setting == 1 + int(np.argmax(scores))


@pytest.mark.parametrize("coverage", [0, 1, float("nan")])
def test_a_coverage_that_no_or_every_list_keeps_is_refused_with_the_reason(coverage: float) -> None:
    with pytest.raises(ValidationError, match="greater than 0|less than 1"):
        DecideConfig(coverage=coverage)


def test_a_conformal_decision_covers_what_it_promises_on_its_own_rows(logits: Logits, truth: Lists) -> None:
    for coverage in (0.5, 0.9):
        decision = fit_decision(logits, truth, DecideConfig(rule="conformal", coverage=coverage))
        lists = decision.lists(decision.probs(logits))
        covered = [np.isin(truth.row(i), lists.row(i)).mean() for i in range(200)]
        assert coverage <= np.mean(covered) <= coverage + 0.02


@pytest.mark.parametrize("coverage", [0, 1])
def test_a_recipe_with_an_impossible_coverage_is_refused_by_its_field(coverage: int) -> None:
    with pytest.raises(ConfigError, match=rf"my.toml: decide.coverage is {coverage}: .*(greater than 0|less than 1)"):
        make_config({"decide": {"coverage": coverage}}, origin="my.toml")


@pytest.mark.parametrize("method", ["platt", "none"])
def test_an_empty_calibration_role_and_nan_scores_are_refused_with_what_to_do(
    method: str, logits: Logits, truth: Lists
) -> None:
    config = DecideConfig(calibration=method)
    none = {kind: torch.zeros(0, 12) for kind in ("network", "forest")}
    with pytest.raises(TableError, match=r"0 observed sets.*'forest': 0.*Hold out a fold that has plots"):
        fit_decision(none, Lists.from_rows([]), config)
    with pytest.raises(TableError, match=r"200 observed sets and logits of \{'network': 199\} rows"):
        fit_decision({"network": logits["network"][1:]}, truth, config)
    spoiled = logits["network"].clone()
    spoiled[3, 4] = float("nan")
    with pytest.raises(TableError, match="1 logits of network are NaN.*diverged"):
        fit_decision({"network": spoiled}, truth, config)


def test_every_rule_works_where_no_row_has_half_of_the_species(logits: Logits, truth: Lists) -> None:
    some = Lists.from_rows([[s for s in truth.row(i).tolist() if s < 6] for i in range(200)])
    for rule in RULES:
        decision = fit_decision(logits, some, DecideConfig(rule=rule, coverage=0.3))
        probs = decision.probs(logits)
        assert torch.isfinite(probs).all()
        assert decision.lists(probs).num_surveys == 200


def test_unknown_rules_are_refused(logits: Logits) -> None:
    with pytest.raises(ValidationError):
        DecideConfig(rule="coin")
    with pytest.raises(ConfigError, match=r"unknown rule 'coin'.*expected_f1"):
        Decision(rule="coin", setting=None, kinds={}).lists(torch.sigmoid(logits["network"]))


def test_kinds_joined_by_logits_count_alike_and_their_mean_is_calibrated() -> None:
    generator = torch.Generator().manual_seed(3)
    signal = torch.randn(2, 400, 6, generator=generator)
    truth_NS = torch.rand(400, 6, generator=generator) < torch.sigmoid(signal.sum(dim=0) - 1)
    truth = Lists.from_rows([row.nonzero().flatten().tolist() for row in truth_NS])
    kinds = {"hinge": 3 * signal[0] + 5, "forest": 0.2 * signal[1]}
    decision = fit_decision(kinds, truth, DecideConfig(join="logits"))
    assert [kind.share for kind in decision.kinds.values()] == [0.5, 0.5]
    lines = [k.calibration.slope * kinds[name] + k.calibration.intercept for name, k in decision.kinds.items()]
    probs = decision.probs(kinds)
    torch.testing.assert_close(probs, torch.sigmoid((lines[0] + lines[1]) / 2))
    fitted = fit_calibration(torch.logit(probs), truth)
    assert fitted.slope == pytest.approx(1, abs=0.02) and fitted.intercept == pytest.approx(0, abs=0.02)


def test_a_kind_that_tells_the_wrong_way_round_counts_nothing_among_logits() -> None:
    drawn = torch.rand(300, 4, generator=torch.Generator().manual_seed(5))
    truth = Lists.from_rows([row.nonzero().flatten().tolist() for row in drawn > 0.5])
    right = 4 * (drawn - 0.5)
    decision = fit_decision({"hinge": right, "forest": -right}, truth, DecideConfig(join="logits"))
    assert decision.kinds["forest"].share == 0 and decision.kinds["hinge"].share == 1
