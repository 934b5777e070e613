"""The report of an ensemble: an ensemble has no members of its own, and is told by those of its runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from releve.report.documents import render_card, write_methods
from releve.report.facts import Facts, gather_facts
from releve.report.odmap.fill import fill_odmap
from releve.report.parts import list_differences, list_recipes, list_runs, write_commands
from releve.report.write import write_report

from .pages import Page, make_joint, make_run, make_tables, open_page, write_tables


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    joint = make_joint(tmp_path_factory.mktemp("runs"))
    write_tables(joint.path / "evaluation", make_tables("ensemble of plain, other"))
    return gather_facts(joint)


@pytest.fixture(scope="module")
def page(facts: Facts) -> Page:
    write_report(facts.run)
    return open_page(facts.run.path / "report.html")


def test_members_folds_and_epochs_are_those_of_the_runs(facts: Facts) -> None:
    assert facts.run.members == () and len(facts.members) == 5
    assert facts.num_members == {"network": 4} and facts.num_refitted == {"network": 1}
    assert facts.folds == [0, 1]
    assert len(facts.curves) == 4  # the network on all rows left none
    assert facts.best_epochs == [3, 3, 3, 3]


def test_the_epochs_told_are_those_whose_weights_were_kept(tmp_path: Path) -> None:
    """The curve rises to its third epoch; what was kept is for the training to say, which smooths it."""
    run = make_run(tmp_path / "run")
    write_tables(run.path / "evaluation", make_tables("run"))
    for member, kept in zip(run.members, (0, 1, 2), strict=False):
        found = {"best_epoch": kept, "selection_sf1": 0.1}
        (run.path / member.name / "member.json").write_text(json.dumps(found))
    assert gather_facts(run).best_epochs == [1, 2, 3][: len(run.members)]
    (run.path / run.members[0].name / "member.json").write_text(json.dumps({"best_epoch": 2, "selection_sf1": None}))
    assert (
        gather_facts(run).best_epochs == [2, 3][: len(run.members) - 1]
    )  # the last epoch, for want of rows to select on


def test_each_run_has_a_row_with_its_weight_and_what_differs(facts: Facts) -> None:
    plain, other = list_runs(facts)
    assert (plain["name"], plain["seed"], plain["share"], plain["members"]) == ("plain", 42, 0.75, "2 networks")
    assert (other["name"], other["seed"], other["share"], other["members"]) == ("other", 43, 0.25, "3 networks")
    assert list_differences(facts) == ["data.records", "model.modalities", "train.regime"]
    assert other["differs"] == ['data.records = "po"', 'model.modalities = ["covariates"]', 'train.regime = "presence"']
    assert plain["differs"] == []  # of two runs, the first is taken for the usual one
    assert plain["inputs"] == ["covariates", "location"] and other["inputs"] == ["covariates"]


def test_a_run_s_own_score_is_shown_where_it_was_evaluated_on_the_same_plots(tmp_path: Path) -> None:
    joint = make_joint(tmp_path)
    write_tables(joint.path / "evaluation", make_tables("ensemble of plain, other"))
    write_tables(tmp_path / "plain" / "evaluation", make_tables("tiny"))
    write_tables(tmp_path / "other" / "evaluation", make_tables("tiny", copies=2))  # other plots
    assert [row["sample_f1"] for row in list_runs(gather_facts(joint))] == [7 / 12, None]
    write_report(joint)
    assert "sF1 alone" in open_page(joint.path / "report.html").text


def test_the_page_tells_the_runs_and_how_to_join_them_again(facts: Facts, page: Page) -> None:
    assert "report of an ensemble" in page.text
    assert "models 5 of 2 runs, 2 of 3 folds" in page.text
    assert "seeds 42, 43 2026-01-03" in page.text
    assert "The runs that the ensemble joins." in page.text and "sF1 alone" not in page.text
    assert "plain 0.75 42 pa covariates, location 2 networks 3 –" in page.text
    assert "4 networks, one colour a run." in page.text
    assert "Recipe plain.toml" in page.text and "Recipe other.toml" in page.text
    assert " ".join(write_commands(facts).split()) in page.text


def test_the_commands_name_a_recipe_a_store_and_a_seed_for_each_run(facts: Facts) -> None:
    assert write_commands(facts).splitlines() == [
        "releve prepare plain.toml --data RELEASE --out STORE-plain --seed 0",
        "releve train plain.toml --store STORE-plain --out plain --seed 42",
        "releve prepare other.toml --data RELEASE --out STORE-other --seed 0",
        "releve train other.toml --store STORE-other --out other --seed 43",
        "releve ensemble plain other --out ENSEMBLE --seed 7",
    ]


def test_runs_of_one_store_prepare_it_once_and_share_a_recipe_where_only_the_seed_differs(tmp_path: Path) -> None:
    runs = [replace(make_run(tmp_path / name), seed=seed) for seed, name in enumerate(("a", "b"))]
    for run in runs:
        run.__dict__["store"] = make_run(tmp_path / f"store-of-{run.path.name}").store
        provenance = json.loads((run.path / "run.json").read_text()) | {"inputs": {"store": "5" * 64}}
        (run.path / "run.json").write_text(json.dumps(provenance))
    joint = replace(make_joint(tmp_path / "joint"), parts=tuple(runs))
    write_tables(joint.path / "evaluation", make_tables("ensemble of plain, other"))
    facts = gather_facts(joint)
    assert write_commands(facts).splitlines() == [
        "releve prepare a.toml --data RELEASE --out STORE --seed 0",
        "releve train a.toml --store STORE --out a --seed 0",
        "releve train a.toml --store STORE --out b --seed 1",
        "releve ensemble a b --out ENSEMBLE --seed 7",
    ]
    assert [names for names, _ in list_recipes(facts)] == [["a", "b"]]


def test_methods_tell_each_run_as_it_is(facts: Facts) -> None:
    data, models, scores = write_methods(facts)
    assert (
        "for each kind of model on its own; one slope and intercept more, the same for all, make their mean" in scores
    )
    assert "180 rows (square cells of 1000 m)" in data  # of the second run's store
    assert "Run plain: The network encoded each of covariates and location" in models
    assert "Run other: The network encoded each of covariates to 256 values" in models
    assert "Run plain: The models were trained on plots. The loss was binary cross-entropy over all species." in models
    assert "Run other: The models were trained on plots and presence-only rows in every step" in models
    assert "The best epoch was 3." in models
    assert (
        "The ensemble joins 2 runs, every model with one of 2 folds held out: plain (2 networks, seed 42) and other "
        "(2 networks, seed 43). 1 network more learned from all rows" in models
    )
    assert (
        "Probabilities of the kinds of each run were averaged with the weights 0.75 (plain/network) and 0.25" in models
    )


def test_odmap_and_the_card_know_all_runs(facts: Facts) -> None:
    values = dict(fill_odmap(facts).select("element_id", "value").rows())
    assert values["o_algorithms_1"] == "multi-label neural network"
    assert values["o_algorithms_3"].startswith("The ensemble joins 2 runs") and "None" not in values["m_selection_2"]
    assert values["o_bio_2"] == "presence/absence; presence-only"
    assert values["m_selection_3"] == (
        "Members differ in training folds, seeds and settings (data.records, model.modalities, train.regime)."
    )
    assert values["d_bio_11"].startswith("Run plain: None: absences are those of plots. Run other: Silence was taken")
    assert values["d_part_1"].startswith("Run plain: The models were trained on plots. Run other: The models were")
    assert values["m_estim_2"].startswith("Not quantified by itself; 4 members")
    assert values["a_perform_1"].startswith("Not scored. Training loss of the last epoch: 1 to 1")
    assert "of each run" in values["o_software_2"]
    card = render_card(facts)
    assert "- **Joined**: 2026-01-03T00:00:00Z" in card
    assert "  - other: trained 2026-01-02T03:04:05Z, with Relevé 0.1.0, commit abcdef0123; seed 43." in card


def test_odmap_is_the_same_as_a_table_and_as_a_page(facts: Facts, page: Page) -> None:
    table = pl.read_csv(facts.run.path / "odmap.csv")
    text = open_page(facts.run.path / "odmap.html").text
    assert table.height == 84
    for row in table.to_dicts():
        assert " ".join(f"{row['element']} {row['value']}".split()) in text


def test_series_that_only_a_later_run_s_store_has_are_told(tmp_path: Path) -> None:
    joint = make_joint(tmp_path)
    first = joint.parts[0]
    changed = make_run(tmp_path / "series", recipe={"model": {"modalities": ["covariates", "landsat"]}})
    arrays = {name: array for name, array in first.store.arrays.items() if name == "covariates"}
    first.__dict__["store"] = replace(first.store, arrays=arrays)
    joint = replace(joint, parts=(first, changed))
    write_tables(joint.path / "evaluation", make_tables("ensemble of plain, other"))
    values = dict(fill_odmap(gather_facts(joint)).select("element_id", "value").rows())
    assert values["d_pred_7"].startswith("Landsat time series:")
