from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from releve.errors import RunError
from releve.report.run import describe_gain, pick_species
from releve.report.tables import OPTIONAL, read_tables
from releve.report.write import write_report

from .pages import Page, make_run, make_tables, open_page, write_tables


def write(path: Path, tables: dict[str, pl.DataFrame], *, parquet: bool = True, **changes: Any) -> Page:
    run = make_run(path, **changes)
    write_tables(path / "evaluation", tables, parquet=parquet)
    assert write_report(run)[0] == path / "report.html"
    return open_page(path / "report.html")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the page of a run with every table, of which several tests read a part."""
    return write(tmp_path_factory.mktemp("run"), make_tables(copies=6))


def test_the_page_says_the_score_with_its_interval_and_what_it_was_measured_on(page: Page) -> None:
    assert "On 24 plots in square blocks of 50 km held out" in page.text
    assert "sF1 0.583 (95 % interval 0.550 to 0.650 )" in page.text
    assert "2.9.9" in page.text and "abcdef0123" in page.text and "--seed 42" in page.text


def test_the_page_says_how_much_better_than_the_best_reference_model(page: Page) -> None:
    assert "better than the best reference model, frequency, by 0.250 ( 0.200 to 0.310 )" in page.text
    assert "It is better than frequency." in page.text
    assert "frequency 0.333 0.250 to 0.350 +0.250 +0.200 to +0.310 0.120" in page.text


def test_the_page_says_what_was_dropped_and_how_far_apart_the_folds_are(page: Page) -> None:
    assert "duplicate survey-species pair 6,754" in page.text and "nothing to drop" not in page.text
    assert "0 1,234 4 7 1.2 19.8" in page.text
    assert "nearer than 2.5 km" in page.text
    assert "covariates 45 75 % 4 yes" in page.text
    assert "1 in all; their plots lack that modality." in page.text and "a/<b>.tif truncated" in page.text


def test_a_run_with_records_shows_drops_by_publisher_and_the_folds_of_its_evaluation(tmp_path: Path) -> None:
    dropped = [
        {"reason": "sea", "publisher": "iNat & co", "count": 12},
        {"reason": "bad_date", "publisher": "iNat & co", "count": 1100},
        {"reason": "sea", "publisher": None, "count": 3},
    ]
    folds = pl.DataFrame({"fold": [1], "num_train": [55], "num_val": [9], "num_untrained_species": [6]})
    tables = {name: make_tables()[name] for name in ("scores", "surveys")} | {"folds": folds}
    page = write(tmp_path, tables, records=True, manifest={"dropped_by_publisher": dropped})
    assert "iNat & co 1,112 bad date 1,100, sea 12 not named 3 sea 3" in page.text
    assert "1,115 records with a doubtful place, date, rank or repeat were dropped" in page.text
    assert "1 55 9 – – – 6" in page.text and "1,234" not in page.text  # not the folds of the store


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.1, "close"), (float("nan"), float("nan"), "unknown")],
)
def test_a_gain_is_better_only_if_its_interval_lies_above_zero(low: float, high: float, word: str) -> None:
    assert describe_gain({"gain_low": low, "gain_high": high}) == word


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((-0.04, -0.06, -0.02), "worse than the best reference model, frequency, by 0.040 ( 0.020 to 0.060 )"),
        ((0.01, -0.02, 0.04), "frequency: the difference is +0.010 ( −0.020 to +0.040 )"),
        ((0.01, None, None), "frequency, reaches 0.333 : a difference of +0.010 , without an interval"),
    ],
)
def test_the_verdict_follows_the_interval_of_the_gain(tmp_path: Path, gain: tuple[Any, ...], words: str) -> None:
    tables = {name: make_tables()[name] for name in ("scores", "surveys")}
    for name, value in zip(("gain", "gain_low", "gain_high"), gain, strict=True):
        column = pl.when("is_model").then(None).otherwise(pl.lit(value, pl.Float64)).alias(name)
        tables["scores"] = tables["scores"].with_columns(column)
    assert words in write(tmp_path, tables).text


def test_groups_carry_their_numbers_and_an_interval_plot(page: Page) -> None:
    # Over both groups the axis goes from 0.0 to 0.6: 0.05 stands at 3 + 126 / 12 = 13.5 of 132.
    assert "group species macro F1 0.00 0.60 1-10 2 0.050 11-30 1 0.500" in page.text
    assert '<circle cx="13.5" cy="8" r="3.6"/>' in page.source
    assert "France 3 0.700 Italy <b> 1 0.234" in page.text
    assert 'aria-label="0.234, –"' in page.source


def test_conformal_coverage_is_shown_against_its_target(page: Page) -> None:
    # The axis goes from 0.70 to 0.95; the target, 0.9, stands at 3 + 126 x 0.8 = 103.8.
    assert "all 4 0.912 40.0 country: Italy 1 0.800 31.5" in page.text
    assert page.source.count('<line class="mark" x1="103.8"') == 2


def test_calibration_by_class_of_species_is_shown(page: Page) -> None:
    assert "all 0.97 0.0100 1-10 0.61 0.0200" in page.text
    assert "The same by class of species" in page.text
    assert "160 pairs of plot and species" in page.text  # the class is not counted twice


def test_example_plots_show_what_was_found_missed_and_wrongly_listed(page: Page) -> None:
    assert "Plot 1, France, 2020 · F1 0.67 · 12 km to the nearest training plot" in page.text
    assert "Found 1 1001 0.90 Missed 1 1002 0.20 Wrongly listed 2 1004 0.72 1003 0.61" in page.text


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


def test_species_of_the_page_carry_their_numbers(page: Page) -> None:
    assert "1001 0.86 0.75 1.00 0.90 18 24" in page.text
    assert "1003 0.00" not in page.text  # 6 presences


def test_the_limits_name_what_the_numbers_do_not_say(page: Page) -> None:
    text = page.text
    assert "which lie 20 km from the nearest plot trained on" in text
    assert "Only 2 of 3 folds were held out" in text
    assert "too extreme on held-out plots (calibration slope 0.80, where 1 is right)" in text
    assert "Surveys are of 2017 to 2020." in text


def test_names_are_escaped(tmp_path: Path) -> None:
    page = write(tmp_path, make_tables("<b>$x$</b>"), title="<script>alert(1)</script>")
    assert "<script>alert(1)</script>" in page.text
    assert "<b>$x$</b>" in page.text
    assert "<b>$x" not in page.source


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_a_table_that_is_missing_or_lacks_a_column_is_left_out(tmp_path: Path, name: str) -> None:
    tables = {name: pl.DataFrame({"unknown": [1]})} | {key: make_tables()[key] for key in ("scores", "surveys")}
    write_tables(tmp_path, tables)
    assert sorted(read_tables(tmp_path, "tiny")) == ["scores", "surveys"]


def test_the_tables_of_an_older_evaluation_still_give_a_page(tmp_path: Path) -> None:
    tables = make_tables()
    old = {name: tables[name] for name in ("surveys", "species", "reliability")}
    old["surveys"] = old["surveys"].drop("region", "num_hit", "distance_km", "novelty")
    old["reliability"] = old["reliability"].filter(pl.col("prevalence_class") == "all").drop("prevalence_class")
    old["scores"] = tables["scores"].select("model", "sample_f1", "sample_f1_low", "sample_f1_high", "macro_f1")
    page = write(tmp_path, old, parquet=False)
    assert "frequency, reaches 0.333 ; how sure that difference is was not measured" in page.text
    assert "160 pairs" in page.text and "Conformal" not in page.text and "Some plots in full" not in page.text


def test_a_run_alone_without_places_spread_or_curves_gives_a_page(tmp_path: Path) -> None:
    tables = make_tables(references=False)
    nothing = pl.lit(None, pl.Float64)
    scores = tables["scores"].with_columns(
        nothing.alias(name) for name in ("auc_macro", "sample_f1_low", "sample_f1_high")
    )
    surveys = tables["surveys"].with_columns(lon=nothing, lat=nothing, fold=0)
    run = make_run(tmp_path, folds=1, manifest={"leakage": [], "dropped": {}, "problems": []})
    write_tables(tmp_path / "evaluation", {"scores": scores, "surveys": surveys})
    (tmp_path / "member-00" / "metrics.jsonl").unlink()
    for name in ("run.json", "decision.json"):
        (tmp_path / name).unlink()
    write_report(run)
    page = open_page(tmp_path / "report.html")
    assert "kept no learning curves" in page.text and "No species has 10 presences" in page.text
    assert "Every file could be read" in page.text and "No row was dropped" in page.text
    assert "reference model," not in page.text and "there is no map" in page.text
    assert not {"nan", "none", "null"} & set(re.findall(r"\w+", page.text.lower()))


def test_many_plots_give_a_page_of_modest_size(tmp_path: Path) -> None:
    page = write(tmp_path, make_tables(copies=1000))
    assert "On 4,000 plots" in page.text and len(page.source) < 2_000_000


def test_a_run_that_was_not_evaluated_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no table of scores. Run releve evaluate .* first"):
        write_report(make_run(tmp_path))


def test_scores_without_a_column_are_refused(tmp_path: Path) -> None:
    write_tables(tmp_path / "evaluation", make_tables() | {"surveys": make_tables()["surveys"].drop("f1")})
    with pytest.raises(RunError, match=r"surveys lacks columns \['f1'\]. Run releve evaluate"):
        write_report(make_run(tmp_path))


def test_scores_that_do_not_say_which_row_is_the_run_are_refused(tmp_path: Path) -> None:
    scores = make_tables("other")["scores"].drop("is_model")
    write_tables(tmp_path / "evaluation", make_tables() | {"scores": scores})
    with pytest.raises(RunError, match=r"0 rows of the run among \['other', 'frequency'\]. expected one"):
        write_report(make_run(tmp_path))


@pytest.mark.parametrize(("name", "content"), [("scores.parquet", b"PAR1"), ("scores.csv", b"")])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    write_tables(tmp_path / "evaluation", make_tables(), parquet=False)
    (tmp_path / "evaluation" / name).write_bytes(content)
    with pytest.raises(RunError, match="the table scores in .* cannot be read"):
        write_report(make_run(tmp_path))


def test_the_same_run_gives_the_same_page(page: Page, tmp_path: Path) -> None:
    assert write(tmp_path, make_tables(copies=6)).source == page.source


def test_no_page_scrolls_sideways_on_a_phone(page: Page, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no browser to lay the page out")
    frame = f'<iframe width="390" height="900" srcdoc="{html.escape(page.source)}"></iframe>'
    script = "const page = document.querySelector('iframe').contentDocument.documentElement;"
    script += "document.title = `${page.scrollWidth} of ${page.clientWidth}`"
    (tmp_path / "phone.html").write_text(f"<title></title>{frame}<script>onload = () => {{{script}}}</script>")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", (tmp_path / "phone.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    widths = re.search(r"<title>(\d+) of (\d+)</title>", shown)
    assert widths and 300 < int(widths[2]) <= 390
    assert int(widths[1]) <= int(widths[2])


def test_coverage_is_told_from_near_to_far_and_by_size(tmp_path: Path) -> None:
    groups = [("all", "all", 9), ("country", "Italy", 2), ("country", "Spain", 7)]
    groups += [("distance", word, 1) for word in ("0-5 km", "10-25 km", "5-10 km", "> 100 km")]
    table = pl.DataFrame(groups, schema=["grouping", "group", "num_surveys"], orient="row")
    table = table.with_columns(target=0.9, coverage=0.91, false_list_rate=0.5, list_length=40.25)
    page = write(tmp_path, make_tables() | {"coverage": table})
    rows = re.findall(r"(?:all|country: \w+|distance: [^<]*? km) (?=\d 0\.910)", page.text)
    assert [row.strip() for row in rows] == [
        *("all", "country: Spain", "country: Italy"),
        *(f"distance: {word}" for word in ("0-5 km", "5-10 km", "10-25 km", "> 100 km")),
    ]
    assert "all 9 0.910 40.2 " in page.text
