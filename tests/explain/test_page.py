"""The page of an explanation tells its tables and nothing else, and the run's page a little of it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.report.pages import Page, make_run, make_tables, open_page, write_tables
from tests.report.test_numbers import NUMBER, is_told, of_column

from releve import pipeline
from releve.errors import RunError
from releve.explain.explain import Asked, Explanation, choose_curves, explain
from releve.explain.importance import measure_importance
from releve.explain.saliency import Saliency
from releve.explain.variables import list_variables
from releve.explain.write import write_explanation
from releve.report.explanation import read_explanation, write_explanation_page
from releve.report.write import write_report
from stores import make_store

from .runs import known_run

METHOD = (
    r"\(?\b[A-Z]\w+(?: & \w+| et al\.)?,? \(?\d{4}\)?\)?",
    r"95 %",
    r"middle 80 %",
    r"beyond 0\.7",
    r"2\.72",
    r"Relevé [\d.]+",
)
"""Works, and constants of the method, which are not results."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An explanation of two species of a known run, with a pair of variables and a made-up saliency."""
    path = tmp_path_factory.mktemp("explained")
    run = known_run(make_store(150, missing=0.0), path / "run")
    asked = Asked(species=("500", "509"), variables=("soil",), pairs=(("warmth", "cover"),))
    found = explain(run, asked, num_repeats=1)
    rng = np.random.default_rng(0)
    patch = Saliency(
        "patch", ("red", "green", "blue", "nir"), rng.uniform(0, 255, (4, 16, 16)), rng.normal(size=(4, 16, 16))
    )
    series = Saliency("landsat", ("red", "nir"), rng.uniform(0, 9, (2, 5, 4)), rng.normal(size=(2, 5, 4)), 2016)
    salient = pl.DataFrame({"modality": ["patch", "landsat"], "channel": ["nir", "red"], "share": [0.625, -0.25]})
    named = [{"modality": s.modality, "channels": s.channels, "first_year": s.first_year} for s in (patch, series)]
    tables = {**found.tables, "saliency": salient}
    facts = found.facts | {"plot": "1007", "saliency": named, "tables": list(tables)}
    write_explanation(Explanation(tables, facts, [patch, series]), path / "explain")
    write_explanation_page(path / "explain", "A <b>small</b> run")
    return path / "explain"


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return open_page(folder / "explain.html")


def test_the_page_is_whole_and_has_every_section(page: Page, folder: Path) -> None:
    sections = {"importance", "species", "responses", "pairs", "limiting", "saliency", "how"}
    assert sections <= set(page.ids) and "A <b>small</b> run" in page.text
    tables, facts = read_explanation(folder)
    assert set(tables) == {
        *("importance", "species", "species_importance", "correlated", "curves", "lines", "distribution", "optima"),
        *("pairs", "limiting", "saliency"),
    }
    best = tables["importance"].filter(shuffled="everywhere", kind="modality").sort("loglik_lost").row(-1, named=True)
    assert f"Without its {best['variable']}, the model's log-likelihood of a held-out survey falls by" in page.text
    assert f"{best['loglik_lost']:.2f} nats" in page.text
    assert facts["subjects"] == ["500", "509"] and "probability of 509" in page.text
    assert page.source.count("<svg") > 20


def test_every_number_on_the_page_is_in_a_table(folder: Path) -> None:
    """Every cell of the tables gets another value; each number of the page must then be one of theirs."""
    tables, facts = read_explanation(folder)
    rng = np.random.default_rng(1)
    other = folder.parent / "other"
    changed = {}
    for name, table in tables.items():
        scores = [c for c in table.columns if re.search("lost|response|raised|lowest|highest|^r$|share", c)]
        values = {c: [None if x is None else 0.1 + 0.8 * rng.random() for x in table[c]] for c in scores}
        table = table.with_columns(pl.Series(c, each, pl.Float64) for c, each in values.items())
        ends = [c for c in scores if f"{c}_low" in scores]
        changed[name] = table.with_columns(
            *((pl.col(c) - 0.0312).alias(f"{c}_low") for c in ends),
            *((pl.col(c) + 0.0417).alias(f"{c}_high") for c in ends),
        )
    told = {key: 0.5 + rng.random() for key in ("loglik", "sample_f1")}
    write_explanation(Explanation(changed, facts | told, []), other)
    write_explanation_page(other, "run")
    known = sources(changed, facts | told)
    text = words_of(other / "explain.html")
    assert len(NUMBER.findall(text)) > 80
    wrong = [m.group() for m in NUMBER.finditer(text) if not is_told(m.group(), known)]
    assert wrong == []
    assert not is_told("0.99871", known)  # so that the test can fail


def sources(tables: dict[str, pl.DataFrame], facts: dict[str, Any]) -> np.ndarray:
    found = [float(value) for value in facts.values() if isinstance(value, (int, float))]
    for table in tables.values():
        found += [number for column in table.columns for number in of_column(table[column])]
    for (_,), part in tables["limiting"].group_by("subject"):
        found.append(part.height)
        for (_,), own in part.group_by("factor"):
            found += [own.height, float((own["raised"] - own["response"]).mean())]
    found += [float(n) for n in tables["species"].filter(pl.col("loglik_lost") > 0)["variable"].value_counts()["count"]]
    found += [float(each) for name in ("species", "optima") for each in tables[name]["species"].unique()]
    found += [float(each) for each in (*facts["subjects"], facts["plot"], 20)]  # and variables in the chart
    return np.array([each for each in found if np.isfinite(each)])


def words_of(file: Path) -> str:
    text = re.sub(r"<(style|svg|title)\b.*?</\1>", " ", file.read_text(encoding="utf-8"), flags=re.S)
    text = html.unescape(re.sub(r"<[^>]+>", " ", text))
    for pattern in METHOD:
        text = re.sub(pattern, " ", text)
    return re.sub(r"\s+", " ", text)


def test_the_page_of_a_run_shows_what_drives_it_where_that_was_explained(folder: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_tables(tmp_path / "evaluation", make_tables())
    write_report(run)
    assert "What drives the model" not in (tmp_path / "report.html").read_text()
    tables, facts = read_explanation(folder)
    write_explanation(Explanation(tables, facts, []), tmp_path / "explain")
    write_explanation_page(tmp_path / "explain", "tiny")
    write_report(run)
    text = (tmp_path / "report.html").read_text()
    assert 'id="drivers"' in text and 'href="explain/explain.html"' in text
    row = tables["importance"].filter(variable="warmth", shuffled="everywhere").row(0, named=True)
    assert f"{row['loglik_lost']:.2f}" in Page(text).text


def test_a_second_explanation_leaves_nothing_of_the_first_and_nothing_else_is_touched(tmp_path: Path) -> None:
    pairs = {"importance": pl.DataFrame({"a": [1]}), "pairs": pl.DataFrame({"a": [1]})}
    some = Saliency("patch", ("red",), np.zeros((1, 2, 2)), np.zeros((1, 2, 2)))
    write_explanation(Explanation(pairs, {"tables": list(pairs)}, [some]), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    one = {"importance": pl.DataFrame({"a": [2]})}
    write_explanation(Explanation(one, {"tables": list(one)}), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["explain.json", "importance.csv", "notes.txt"]
    assert json.loads((tmp_path / "explain.json").read_text()) == {"tables": ["importance"]}
    with pytest.raises(RunError, match="holds no explanation. Run releve explain first"):
        read_explanation(tmp_path / "elsewhere")


def test_names_are_checked_before_anything_is_worked_out(tmp_path: Path) -> None:
    run = known_run(make_store(60), tmp_path)

    def never(*_: object) -> None:
        raise AssertionError

    for asked, words in (
        (Asked(species=("5000",)), "did you mean '500'"),
        (Asked(variables=("warm",)), "did you mean 'warmth'"),
        (Asked(variables=("country",)), "country has no values that could be tried"),
        (Asked(pairs=(("warmth", "rian"),)), "did you mean 'rain'"),
        (Asked(plot="1"), "no survey '1'"),
    ):
        with pytest.raises(RunError, match=words):
            explain(run, asked, advance=never)


def test_curves_are_of_what_was_named_and_of_what_counts_most(tmp_path: Path) -> None:
    run = known_run(make_store(150, missing=0.0), tmp_path)
    variables = list_variables(run)
    importance = measure_importance(run, num_repeats=1)
    soil = next(each for each in variables if each.name == "soil")
    chosen = [each.name for each in choose_curves(variables, importance, [soil])]
    assert chosen[0] == "soil" and chosen.index("warmth") == 1
    assert len(chosen) == len(set(chosen)) and not {"country", "region", "coordinates"} & set(chosen)


def test_the_step_writes_tables_page_and_report_and_notes_itself(tmp_path: Path) -> None:
    run = known_run(make_store(60), tmp_path)
    (tmp_path / "run.json").write_text("{}")
    page = pipeline.explain(run, Asked(), seed=1)
    assert page == tmp_path / "explain" / "explain.html" and "expected richness" in open_page(page).text.lower()
    assert "explain" in json.loads((tmp_path / "run.json").read_text())["steps"]
    tables, facts = read_explanation(tmp_path / "explain")
    assert facts["seed"] == 1 and facts["subjects"] == ["expected richness"] and "species_importance" not in tables
    other = pipeline.explain(run, Asked(), tmp_path / "elsewhere", seed=1)
    assert (other.parent / "importance.csv").read_text() == (page.parent / "importance.csv").read_text()
