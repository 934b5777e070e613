from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from releve.report.demo import summarise_models, write_demo_report

from .pages import Page, make_demo, open_page


def write(path: Path, **changes: object) -> Page:
    write_demo_report(make_demo(**changes), path / "report.html")
    return open_page(path / "report.html")


def test_the_headline_compares_all_modalities_with_the_best_of_each_kind(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert "With all modalities the model reaches sF1 0.420 (0.400 to 0.440)" in page.text
    assert "the best single modality (covariates) 0.330 (0.310 to 0.350)" in page.text
    assert "the best reference model (extra trees) 0.300 ; the oracle, which" in page.text
    assert "knows the true probabilities, 0.610 ." in page.text


def test_means_and_ranges_leave_out_what_is_not_defined() -> None:
    rows = {row["model"]: row for row in summarise_models(make_demo().scores)}
    assert list(rows) == ["oracle", "all modalities", "covariates", "patch", "extra trees"]
    assert rows["all modalities"]["auc_macro"] == pytest.approx(0.85)
    assert (rows["all modalities"]["auc_macro_low"], rows["all modalities"]["auc_macro_high"]) == (0.8, 0.9)
    assert rows["covariates"]["auc_macro"] is None and rows["covariates"]["macro_f1"] == 0.1
    assert rows["covariates"]["macro_f1_low"] is None


def test_examples_say_what_was_found_missed_and_wrong(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert "Plot 9, Italy · F1 0.50" in page.text
    assert "Found (1): 8 Missed (1): 11 Wrong (1): 5" in page.text


def test_facts_times_and_counts_stand_on_the_page(tmp_path: Path) -> None:
    page = write(tmp_path)
    assert "training plots 3,000" in page.text and "1 min 15 s" in page.text and "simulate 1.5 s" in page.text
    assert "1 training plots (grey) and 2 test plots (green)" in page.text
    assert "releve run RECIPE --data RELEASE --out RUN" in page.text


def test_names_are_escaped(tmp_path: Path) -> None:
    examples = pl.DataFrame(
        {"survey_id": [1], "country": ["<i>"], "predicted": [["<b>"]], "observed": [["<b>", "a & b"]], "f1": [0.7]}
    )
    page = write(tmp_path, examples=examples)
    assert "A <b>small</b> world" in page.text and "Plot 1, <i>" in page.text
    assert "Found (1): <b> Missed (1): a & b" in page.text


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": make_demo().scores.filter(pl.col("kind") == "fused").head(1), "seeds": (0,)},
        {"scores": make_demo().scores.clear()},
        {"plots": make_demo().plots.clear(), "examples": make_demo().examples.clear(), "runtime": {}},
        {"plots": make_demo().plots.head(1)},
        {"plots": make_demo().plots.with_columns(lon=pl.lit(170.0), lat=pl.lit(-40.0), f1=pl.lit(None))},
    ],
    ids=["one model, one seed", "no scores", "no plots", "training plots only", "one place, no F1"],
)
def test_degenerate_demos_still_give_a_page(tmp_path: Path, changes: dict) -> None:
    page = write(tmp_path, **changes)
    assert "On with your own data" in page.text
