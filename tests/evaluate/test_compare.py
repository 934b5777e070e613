"""Runs side by side: the same plots, paired gains, clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.errors import RunError
from releve.evaluate.compare import compare_runs
from scored import write_run


def test_gains_are_paired_over_the_plots_both_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain = rng.uniform(0, 1, 40)
    better = plain + 0.05  # every plot gains the same: a paired interval has no width, an unpaired one has
    paths = [write_run(tmp_path / "pa", plain), write_run(tmp_path / "both", better, regime="presence")]
    table = compare_runs(paths)
    assert table["run"].to_list() == ["both", "pa"]
    first = table.row(0, named=True)
    assert first["regime"] == "presence" and first["records"] == "grid" and first["num_plots"] == 40
    assert first["gain"] == pytest.approx(0.05)
    assert first["gain_low"] == pytest.approx(0.05) and first["gain_high"] == pytest.approx(0.05)
    assert table.row(1, named=True)["gain"] == 0 and table.row(1, named=True)["records"] == ""


def test_a_run_that_is_titled_like_a_reference_model_is_compared_by_its_own_scores(tmp_path: Path) -> None:
    row = compare_runs([write_run(tmp_path / "a", np.linspace(0, 1, 8), title="frequency")]).row(0, named=True)
    assert (row["macro_f1"], row["auc_macro"]) == (0.1, 0.7)


def test_scores_that_do_not_say_which_row_is_the_runs_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", np.linspace(0, 1, 8))
    file = path / "evaluation/scores.json"
    file.write_text(file.read_text().replace('"is_model": true', '"is_model": false'))
    with pytest.raises(RunError, match=r"0 rows of the run itself.*releve evaluate"):
        compare_runs([path])


def test_only_shared_plots_count(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 40)
    paths = [write_run(tmp_path / "a", values), write_run(tmp_path / "b", values, first_id=20)]
    row = compare_runs(paths).filter(pl.col("run") == "b").row(0, named=True)
    assert row["num_plots"] == 20
    assert row["gain"] == pytest.approx((values[:20] - values[20:]).mean())
    assert row["sample_f1"] == pytest.approx(values[:20].mean())  # not of all the plots that b has


def test_equal_ids_at_other_places_are_not_the_same_plots(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 8)
    paths = [write_run(tmp_path / "a", values), write_run(tmp_path / "b", values)]
    file = paths[1] / "evaluation/surveys.csv"
    pl.read_csv(file).with_columns(pl.col("lat") + 1).write_csv(file)
    with pytest.raises(RunError, match="no held-out plot in common"):
        compare_runs(paths)


def test_a_run_from_before_there_were_regimes_is_one_of_plots(tmp_path: Path) -> None:
    path = write_run(tmp_path / "old", np.linspace(0, 1, 8))
    (path / "run.json").write_text(json.dumps({"config": {"title": "model x", "train": {"epochs": 3}}}))
    assert compare_runs([path]).row(0, named=True)["regime"] == "pa"


def test_a_solution_scores_the_lists_of_the_test_split(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", np.linspace(0, 1, 8))
    (path / "predictions.csv").write_text("surveyId,predictions\n1,10 20\n2,30\n")
    (tmp_path / "solution.csv").write_text("surveyId,target_species_ids\n1,10\n2,30\n")
    row = compare_runs([path], tmp_path / "solution.csv").row(0, named=True)
    assert row["test_sample_f1"] == pytest.approx((2 / 3 + 1) / 2)
    (path / "predictions.csv").unlink()
    with pytest.raises(RunError, match=r"no predictions.csv.*releve predict"):
        compare_runs([path], tmp_path / "solution.csv")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / n, np.linspace(0, 1, 8), first_id=i) for n, i in (("a", 0), ("b", 100)))
    with pytest.raises(RunError, match="no held-out plot in common.*same split section and seed"):
        compare_runs([a, b])
    with pytest.raises(RunError, match="not a run"):
        compare_runs([tmp_path])
    surveys = pl.read_csv(b / "evaluation/surveys.csv").with_columns(survey_id=pl.lit(3))
    surveys.write_csv(b / "evaluation/surveys.csv")
    with pytest.raises(RunError, match="share survey id, place and date"):
        compare_runs([a, b])
    (b / "evaluation/scores.json").unlink()
    with pytest.raises(RunError, match=r"lacks evaluation/scores.json.*releve evaluate"):
        compare_runs([a, b])
    with pytest.raises(RunError, match="no run to compare"):
        compare_runs([])
