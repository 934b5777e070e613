from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from releve.report import words
from releve.report.citations import ENTRIES, WORKS, list_works, read_entries, write_bibtex
from releve.report.documents import render_card, render_methods, write_methods
from releve.report.facts import Facts, gather_facts
from releve.report.odmap.fill import ELEMENTS, FILLED, FILLS, OPEN, fill_odmap
from releve.report.run import list_kinds
from releve.report.write import render_odmap, write_report
from releve.runs.folder import FILES

from .pages import DECISION, make_run, make_tables, open_page, write_tables


def make_facts(path: Path, tables: dict[str, pl.DataFrame] | None = None, **changes: Any) -> Facts:
    run = make_run(path, **changes)
    write_tables(path / "evaluation", tables or make_tables())
    return gather_facts(run)


def values_of(facts: Facts) -> dict[str, str]:
    """Return the values of ODMAP's elements by id."""
    return dict(fill_odmap(facts).select("element_id", "value").rows())


def test_a_report_is_six_files(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_tables(tmp_path / "evaluation", make_tables())
    assert [file.name for file in write_report(run)] == list(FILES)
    assert all((tmp_path / name).stat().st_size > 500 for name in FILES)
    table = pl.read_csv(tmp_path / "odmap.csv")
    assert table.columns == ["section", "subsection", "element_id", "element", "value", "status"]
    filled = table.filter(pl.col("status") == FILLED).height
    assert f"{filled} of 84 elements filled, {84 - filled} for the author" in open_page(tmp_path / "report.html").text
    assert f"{filled} of 84 elements are filled" in open_page(tmp_path / "odmap.html").text


def test_odmap_has_all_elements_of_the_protocol_each_once() -> None:
    elements = pl.read_csv(ELEMENTS)
    sections = dict(elements.group_by("section", maintain_order=True).len().rows())
    assert sections == {"Overview": 25, "Data": 33, "Model": 14, "Assessment": 5, "Prediction": 7}
    assert elements["element_id"].n_unique() == 84 and set(FILLS) <= set(elements["element_id"])
    assert all(len(hint) > 5 for hint in elements["hint"])


def test_odmap_holds_what_the_run_knows_and_asks_for_the_rest(tmp_path: Path) -> None:
    facts = make_facts(tmp_path)
    table = fill_odmap(facts)
    values = values_of(facts)
    assert values["o_scale_3"] == "2017 to 2020"
    assert values["o_location_1"] == "Surveys by country: Italy 32, France 28."
    assert values["o_software_1"] == "Relevé 0.1.0, commit abcdef0123, Python 3.11.7, torch 2.9.9."
    assert values["d_bio_9"] == "Dropped rows and masked values by reason. train: duplicate survey-species pair 6,754."
    assert values["d_bio_11"] == "None: absences are those of plots."
    assert "buffer of 2.5 km" in values["m_depend_1"]
    assert "0.583 (95 % interval 0.550 to 0.650)" in values["a_perform_2"]
    assert values["a_perform_1"].startswith("Not scored. Training loss of the last epoch: 1 to 1")
    assert values["o_authorship_2"] == "[for the author] Everyone who takes responsibility for the study."
    status = dict(table.select("element_id", "status").rows())
    assert {status["o_authorship_2"], status["d_proj_6"], status["a_perform_3"]} == {OPEN}
    assert {status["o_scale_3"], status["m_threshold_1"]} == {FILLED}
    # What is known in part stays open.
    assert "median" in values["d_bio_12"] and status["d_bio_12"] == OPEN


def test_what_a_run_does_not_know_is_not_made_up(tmp_path: Path) -> None:
    facts = make_facts(tmp_path, recipe={"model": {"modalities": ["location"]}}, manifest={"release": "own"})
    values = values_of(facts)
    for element in ("d_bio_4", "d_pred_2", "d_pred_3", "d_pred_4", "d_pred_6", "d_pred_7", "m_depend_3", "o_scale_4"):
        assert values[element].startswith("[for the author]"), element
    assert values["o_predictors_1"] == "location"
    assert values["d_pred_1"] == "the coordinates."


def test_the_page_of_odmap_is_whole_and_escaped(tmp_path: Path) -> None:
    facts = make_facts(tmp_path, title="<i>run</i>")
    (tmp_path / "odmap.html").write_text(render_odmap(facts, fill_odmap(facts)))
    page = open_page(tmp_path / "odmap.html")
    assert "<i>run</i>" in page.text and "GeoLifeCLEF <2024>" in page.text
    assert page.text.count("Spatial autocorrelation") == 1 and "Novel environments" in page.text


def test_methods_carry_the_numbers_of_the_run(tmp_path: Path) -> None:
    data, models, scores = write_methods(make_facts(tmp_path))
    assert "60 vegetation plots with 203 presences of 8 species; on average 3.4 species a plot" in data
    assert "Square blocks of 50 km were dealt to 3 folds" in data
    assert "2.5 km" in data and "was 19.8 km, the smallest 1.2 km" in data
    assert "In all, 2 networks were trained, each with one of 2 folds held out (seed 42)." in models
    assert "The loss was binary cross-entropy over all species." in models
    assert (
        "at most 20 epochs (batches of 128" in models
        and "(patience 6 epochs)" in models
        and "The best epoch was 3." in models
    )
    assert "On 4 held-out plots" in scores
    assert "macro F1 over species 0.410 (95 % interval 0.380 to 0.440) and mean AUC 0.750" in scores
    assert "the calibration slope was 0.80" in scores
    assert "frequency, had an sF1 of 0.333; the paired difference was +0.250 (+0.200 to +0.310)." in scores
    assert "Conformal lists with a target of 90 % covered 91.2 %." in scores


@pytest.mark.parametrize(
    ("regime", "has", "lacks"),
    [
        ("po", ["presence-only rows alone", "20 epochs (batches"], ["for the plots"]),
        ("presence", ["for the plots and", "for the presence-only rows, weighted 5", "in every step"], []),
        ("classes", ["20 epochs after 10 epochs on presence-only rows", "for the plots and"], [", weighted"]),
    ],
)
def test_every_regime_is_told_as_it_is(tmp_path: Path, regime: str, has: list[str], lacks: list[str]) -> None:
    recipe = {"train": {"regime": regime}, "data": {"records": "po"}}
    facts = make_facts(tmp_path, records=True, recipe=recipe)
    text = " ".join(write_methods(facts))
    assert "180 rows (square cells of 1000 m)" in text and "target-group background" in text
    assert "They were also explained by publisher" in text
    assert all(words in text for words in has) and not any(words in text for words in lacks)
    values = values_of(facts)
    assert values["o_bio_2"] == "presence/absence; presence-only"
    assert values["d_bio_11"].startswith("Silence was taken at the presence-only rows themselves")
    assert "to the power of −0.5" in values["d_bio_8"]


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ({"split": {"method": "country"}}, "Countries were dealt to 3 folds"),
        ({"train": {"selection_share": 0.0}}, "Of the last epoch, a running average of the weights was kept."),
        ({"train": {"selection_share": 0.0, "ema_decay": 0.0}}, "The last epoch's weights were kept."),
        ({"train": {"kinds": ["network", "network"]}}, "held out, 2 networks a fold with seeds of their own (seed 42)"),
        ({"train": {"class_weight": 0.5}}, "Presences of rare species weighed more (power 0.5 of their rarity)."),
        ({"model": {"fusion": "direct", "modalities": ["patch"]}}, "passed patch straight to a linear head"),
        ({}, "calibrated by Platt scaling, a slope and an intercept of the logits"),
        ({"decide": {"calibration": "none"}}, "Probabilities were not calibrated."),
    ],
)
def test_settings_change_the_words(tmp_path: Path, recipe: dict[str, Any], text: str) -> None:
    assert text in " ".join(write_methods(make_facts(tmp_path, recipe=recipe)))


def test_lists_of_a_rule_with_a_promise_name_it(tmp_path: Path) -> None:
    facts = make_facts(tmp_path, recipe={"decide": {"rule": "conformal", "coverage": 0.8}})
    assert words.describe_rule(facts).startswith("the list with the highest expected F1")  # as the decision says
    (tmp_path / "decision.json").write_text(json.dumps(DECISION | {"rule": "conformal", "setting": 0.31}))
    facts = gather_facts(facts.run)
    assert "hold 80 % of the recorded species on average" in words.describe_decision(facts)
    assert values_of(facts)["m_threshold_1"].endswith("on average (0.31).")
    assert "ye2012f" not in write_bibtex(list_works(facts))


def test_members_of_two_kinds_and_those_refitted_are_counted_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = run.members[0]
    kinds = [(0, "forest"), (1, "forest"), (None, "network")]
    more = [type(first)(2 + i, fold, 7, kind) for i, (fold, kind) in enumerate(kinds)]
    run = _with_members(run, more)
    calibration = DECISION["kinds"]["network"]["calibration"]  # type: ignore[index]
    shares = {
        "network": {"calibration": calibration, "share": 0.55},
        "forest": {"calibration": calibration, "share": 0.45},
    }
    (tmp_path / "decision.json").write_text(json.dumps(DECISION | {"kinds": shares}))
    write_tables(tmp_path / "evaluation", make_tables())
    text = words.describe_members(gather_facts(run))
    assert "2 networks and 2 forests were trained, each with one of 2 folds held out" in text
    assert "1 network more learned from all rows" in text and "0.55 (network) and 0.45 (forest)" in text


def test_boosted_trees_are_described_and_cited(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = run.members[0]
    run = _with_members(run, [type(first)(2 + fold, fold, 7, "booster") for fold in (0, 1)])
    write_tables(tmp_path / "evaluation", make_tables())
    facts = gather_facts(run)
    assert "2 networks and 2 boosters were trained" in words.describe_members(facts)
    assert "Each booster had" in words.describe_network(facts)
    assert values_of(facts)["o_algorithms_1"] == "multi-label neural network; boosted trees"
    cited = write_bibtex(list_works(facts))
    assert "friedman2001boosting" in cited and "iosipoi2022sketchboost" in cited
    assert "friedman2001boosting" not in write_bibtex(list_works(make_facts(tmp_path / "without")))


def _with_members(run: Any, more: list[Any]) -> Any:
    changed = type(run)(run.path, run.config, run.seed, (*run.members, *more))
    changed.__dict__["store"] = run.store
    return changed


def test_calibration_and_stretch_of_every_kind_are_told() -> None:
    linear = {"slope": 0.5, "intercept": 0.25, "method": "linear"}
    stretch = {"slope_of_two": 1.038, "pivot": -3.1}
    kinds = {"a": {"calibration": linear, "share": 0.5, "stretch": stretch}, "b": {"calibration": linear, "share": 0.5}}
    first, second = list_kinds({"kinds": kinds})
    assert first["calibration"] == second["calibration"] == "slope 0.50, intercept +0.25"
    assert first["stretch"] == "1.04" and second["stretch"] == ""


def test_the_model_card_has_the_sections_of_mitchell_and_the_scores_with_intervals(tmp_path: Path) -> None:
    text = render_card(make_facts(tmp_path, title="a|b *c*"))
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads == [
        *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data"),
        *("Quantitative analyses", "Ethical considerations", "Caveats and recommendations"),
    ]
    assert text.startswith("# Model card: a\\|b \\*c\\*\n")
    assert "| sF1 (mean F1 of the lists) | 0.583 | 0.550 to 0.650 |" in text
    assert "| frequency | 0.333 | 0.250 to 0.350 | +0.250 (+0.200 to +0.310) |" in text
    assert "| 1-10 | 2 | 0.050 | 0.010 to 0.100 |" in text and "| Italy \\<b> | 1 | 0.234 | – |" in text
    assert "Sensitive species" in text and "Out of scope" in text


def test_a_card_without_groups_says_so(tmp_path: Path) -> None:
    tables = {name: make_tables()[name] for name in ("scores", "surveys")}
    assert "Scores by group were not measured." in render_card(make_facts(tmp_path, tables))


def test_only_the_data_that_a_run_used_are_cited(tmp_path: Path) -> None:
    groups = {"warmth": "bioclim", "rain": "bioclim", "soil": "soil", "cover": "landcover"}
    facts = make_facts(tmp_path / "a", recipe={"model": {"modalities": ["covariates", "landsat"]}})
    facts.store.arrays["covariates"].spec.groups.update(groups)
    keys = [work.key for work in list_works(facts, "records", "predictors")]
    assert keys == [
        *("picek2024geoplant", "picek2024geolifeclef", "karger2017climatologies", "poggio2021soilgrids"),
        *("modis_mcd12q1", "witjes2023ecodatacube"),
    ]
    own = make_facts(tmp_path / "b", manifest={"release": "own"})
    assert list_works(own, "records", "predictors") == []
    assert "GeoPlant" not in render_methods(own)


@pytest.mark.parametrize(
    ("release", "key"),
    [("glc23", "botella2023geolifeclef"), ("glc24", "picek2024geolifeclef"), ("glc25", "picek2025geolifeclef")],
)
def test_the_overview_of_the_release_s_year_is_cited(tmp_path: Path, release: str, key: str) -> None:
    works = list_works(make_facts(tmp_path, manifest={"release": release}), "records")
    assert [work.key for work in works if "geolifeclef" in work.key] == [key]


def test_records_cite_gbif_and_pl_ntnet_where_it_is_a_publisher(tmp_path: Path) -> None:
    facts = make_facts(tmp_path, records=True)
    assert [work.key for work in list_works(facts, "records")][-1] == "gbif"
    named = facts.store.surveys.with_columns(publisher=pl.col("publisher").replace("A", "Pl@ntNet"))
    facts.run.__dict__["store"] = replace(facts.store, surveys=named)
    assert [work.key for work in list_works(facts, "records")][-2:] == ["gbif", "affouard2023plantnet"]


def test_every_work_has_an_entry_and_every_entry_is_whole(tmp_path: Path) -> None:
    entries = read_entries()
    assert set(entries) == {key for works in WORKS.values() for key in works}
    assert write_bibtex(list(entries.values())) == ENTRIES.read_text(encoding="utf-8")
    for work in entries.values():
        assert {"author", "title"} <= work.fields.keys()
        assert work.fields.keys() & {"doi", "eprint", "volume", "pages", "note"}, work.key
        assert not re.search(r"[{}]", work.text) and work.text.endswith(".")
    assert entries["poggio2021soilgrids"].text == (
        "L. Poggio, L. M. de Sousa, N. H. Batjes et al. (2021). SoilGrids 2.0: producing soil information for the "
        "globe with quantified spatial uncertainty. SOIL 7, 217–240. doi:10.5194/soil-7-217-2021."
    )
