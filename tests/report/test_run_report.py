from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from releve.evaluate import Evaluation
from releve.report import write_run_report
from releve.report.run import compare_models, describe_gain, pick_species

from .pages import Page, make_evaluation, make_run, open_page


def write(run_path: Path, evaluation: Evaluation, **changes: object) -> Page:
    run = make_run(run_path, **changes)  # type: ignore[arg-type]
    write_run_report(run, evaluation, run_path / "report.html")
    return open_page(run_path / "report.html")


def test_the_page_says_the_score_with_its_interval_and_what_it_was_measured_on(tmp_path: Path) -> None:
    page = write(tmp_path, make_evaluation(copies=3))
    assert "On 12 plots in regions held out" in page.text
    assert "sF1 0.583 (95 % interval 0.550 to 0.650 )" in page.text
    assert "2.9.9" in page.text and "abcdef0123" in page.text and "--seed 42" in page.text


def test_the_page_says_what_was_dropped_and_how_far_apart_the_folds_are(tmp_path: Path) -> None:
    page = write(tmp_path, make_evaluation())
    assert "duplicate survey-species pair 6,754" in page.text and "nothing to drop" not in page.text
    assert "0 1,234 4 7 1.2 19.8" in page.text
    assert "nearer than 2.5 km" in page.text
    assert "covariates 5 62 % 4 × 2 yes" in page.text
    assert "1 in all; their plots lack that modality." in page.text and "a/<b>.tif truncated" in page.text


def test_the_gain_over_a_reference_model_is_the_paired_mean_difference() -> None:
    evaluation = make_evaluation(copies=6)
    model, other = compare_models(evaluation, 0)
    # The reference lists species 1 everywhere: F1 2/3, 0, 2/3, 0, so its mean is 1/3.
    assert (model["is_model"], other["model"]) == (True, "frequency")
    assert other["gain"] == pytest.approx(7 / 12 - 1 / 3)
    assert other["gain_low"] <= other["gain"] <= other["gain_high"]


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.1, "close"), (float("nan"), float("nan"), "unknown")],
)
def test_a_gain_is_better_only_if_its_interval_lies_above_zero(low: float, high: float, word: str) -> None:
    assert describe_gain({"gain_low": low, "gain_high": high}) == word


def test_best_and_worst_species_have_ten_presences_and_are_never_the_same() -> None:
    count = 41
    species = pl.DataFrame(
        {
            "species_id": np.arange(count),
            "num_true": [9] + [10] * (count - 1),
            "f1": np.linspace(1, 0, count),
            "auc": [float("nan")] * count,
        }
    )
    best, worst = pick_species(species)
    assert [row["species_id"] for row in best] == list(range(1, 16))
    assert [row["species_id"] for row in worst] == list(range(40, 25, -1))
    best, worst = pick_species(species.head(4))
    assert [row["species_id"] for row in best] == [1, 2] and [row["species_id"] for row in worst] == [3]


def test_species_of_the_page_carry_their_numbers(tmp_path: Path) -> None:
    page = write(tmp_path, make_evaluation(copies=6))
    # Species 0: observed on 18 plots, predicted on 24, 18 hits: precision 0.75, recall 1, F1 36 / 42.
    assert "1001 0.86 0.75 1.00" in page.text
    assert "1003" not in page.text  # 6 presences


def test_names_are_escaped(tmp_path: Path) -> None:
    page = write(tmp_path, make_evaluation("<b>$x$</b>"), title="<script>alert(1)</script>")
    assert "<script>alert(1)</script>" in page.text
    assert "<b>$x$</b>" in page.text
    assert "<b>$x" not in page.source


@pytest.mark.parametrize("changes", [{"spread": False}, {"baselines": False}, {"copies": 400}])
def test_degenerate_and_large_evaluations_still_give_a_page(tmp_path: Path, changes: dict) -> None:
    page = write(tmp_path, make_evaluation(**changes), folds=1)
    assert "0.583" in page.text
    assert ("reference model, frequency" in page.text) == changes.get("baselines", True)


def test_a_page_is_written_without_curves_species_scores_or_places(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for member in run.members:
        (tmp_path / member.name / "metrics.jsonl").unlink()
    (tmp_path / "run.json").unlink()
    run.store.manifest.leakage, run.store.manifest.dropped, run.store.manifest.problems = [], {}, []
    evaluation = make_evaluation()
    ranks = dataclasses.replace(evaluation.entries[0].ranks, auc_macro=float("nan"), num_species_scored=0)
    entries = [dataclasses.replace(evaluation.entries[0], ranks=ranks, low=float("nan"), high=float("nan"))]
    species = evaluation.species.with_columns(auc=pl.lit(float("nan")))
    write_run_report(run, dataclasses.replace(evaluation, entries=entries, species=species), tmp_path / "report.html")
    page = open_page(tmp_path / "report.html")
    assert "kept no learning curves" in page.text and "No species has 10 presences" in page.text
    assert "Every file could be read" in page.text and "No row was dropped" in page.text
    assert "nan" not in page.text.lower().split()


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run, evaluation = make_run(tmp_path), make_evaluation()
    write_run_report(run, evaluation, tmp_path / "a.html")
    write_run_report(run, evaluation, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
