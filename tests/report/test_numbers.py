"""Every number that a report tells is in the tables, records or store that it is told from."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from releve.report.citations import list_works
from releve.report.documents import mark
from releve.report.facts import Facts, gather_facts
from releve.report.write import write_report

from .pages import make_run, make_tables, write_tables

NUMBER = re.compile(r"(?<![\w.])[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
NO_RESULT = (
    r"doi:\S+|https?://\S+|arXiv:\S+",
    r"\(?\b[A-Z]\w+(?: & \w+| et al\.)?,? \(?\d{4}\)?\)?",  # a work that is cited
    r"SHA-256|EPSG:\d+|Sentinel-2|Python [\d.]+|Relevé [\d.]+|torch [\d.]+|MODIS about 500 m|1 km\b|250 m at the",
    r"CHELSA\)? 30 arc seconds|1 arc second|\d+ ?m2\b(?= \()|1981 to 2010|Landsat 30 m|95 %|presence-absence",
    r"\d{4}-\d\d-\d\dT[\d:]+Z|\d{4}-\d\d-\d\d|seed \d+",
    r"longitude −32.26 to 35.58, latitude 26.63 to 72.18",
)
"""Names, dates and constants of the method, which are not results."""


def unlike_numbers(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Return the tables with another value in every cell of scores, so that a number tells where it came from."""
    rng, made = np.random.default_rng(0), {}
    for name, table in tables.items():
        scores = [c for c, kind in table.schema.items() if kind.is_float() and c not in ("lon", "lat", "f1", "novelty")]
        columns = {
            c: [None if x is None or math.isnan(x) else 0.1 + 0.8 * rng.random() for x in table[c]] for c in scores
        }
        table = table.with_columns(pl.Series(c, values, pl.Float64) for c, values in columns.items())
        for c in scores:  # an interval holds its score
            if f"{c}_low" in columns and f"{c}_high" in columns:
                table = table.with_columns(
                    (pl.col(c) - 0.0312).alias(f"{c}_low"), (pl.col(c) + 0.0417).alias(f"{c}_high")
                )
        made[name] = table
    return made


def numbers_in(value: Any) -> Iterator[float]:
    """Yield every number of nested records, and of texts within them."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers_in(item)
        yield len(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers_in(item)
        yield len(value)
    elif isinstance(value, str):
        yield from (read(text) for text in NUMBER.findall(value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def of_column(column: pl.Series) -> Iterator[float]:
    """Yield the values of a column, how many there are, and what is said of them together."""
    known = column.drop_nulls()
    yield from (len(column), len(known), known.n_unique())
    if column.dtype.is_numeric() and len(known):
        values = known.cast(pl.Float64).to_numpy()
        values = values[np.isfinite(values)]
        yield from values.tolist()
        if len(values):
            yield from (values.sum(), values.mean(), (values == 0).sum(), (values > 0).sum(), (values >= 10).sum())
            yield from np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist()
    elif column.dtype == pl.String:
        yield from known.value_counts()["count"].to_list()


def sources(facts: Facts) -> list[float]:
    """Return all numbers that may be told: of evaluation/*.csv, the run's records, and the store."""
    found: list[float] = []
    for file in sorted((facts.run.path / "evaluation").glob("*.csv")):
        table = pl.read_csv(file, infer_schema_length=None)
        groups = [c for c in ("prevalence_class", "grouping") if c in table.columns]
        for part in [table, *(table.partition_by(groups[0]) if groups else [])]:
            found += [number for name in part.columns for number in of_column(part[name])]
    for record in [*facts.run.path.rglob("*.json"), *facts.run.path.rglob("*.jsonl")]:
        for line in record.read_text().splitlines() if record.suffix == ".jsonl" else [record.read_text()]:
            found += numbers_in(json.loads(line))
    found += numbers_in(facts.config.model_dump(mode="json"))
    found += numbers_in(facts.manifest.model_dump(mode="json"))
    store = facts.store
    surveys = store.surveys.filter(pl.Series(store.is_scored))
    found += [number for name in surveys.columns for number in of_column(surveys[name])]
    found += [number for name in store.surveys.columns for number in of_column(store.surveys[name])]
    presences = np.bincount(
        store.labels.take(np.flatnonzero(store.is_scored)).indices, minlength=len(store.species_ids)
    )
    found += of_column(pl.Series(presences))
    found += of_column(pl.Series(presences[presences > 0]))
    found += of_column(pl.Series(100 * presences[presences > 0] / store.is_scored.sum()))
    found += [presences.sum() / max(store.is_scored.sum(), 1), (presences == 0).sum(), (presences <= 10).sum()]
    found += [
        float(((presences > 0) & (presences <= 10)).sum()),
        len(store),
        store.is_plot.sum(),
        (~store.is_plot).sum(),
    ]
    for array in store.arrays.values():
        having = int((array.row_of >= 0).sum())
        found += [having, 100 * having / len(store), len(array.spec.channels), *map(float, array.spec.shape)]
    found += [facts.run.seed, len(facts.members), len(facts.folds), len(facts.config.clean.drop)]
    return [float(x) for x in found if math.isfinite(x)]


def read(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def is_told(text: str, known: np.ndarray) -> bool:
    """Return whether a number is one of the known ones in so many digits, also as a share in % or without its sign."""
    value, decimals = abs(read(text)), len(text.partition(".")[2])
    magnitudes = np.abs(np.concatenate([known, 100 * known]))
    return bool((np.abs(magnitudes - value) <= 0.5000001 * 10.0**-decimals).any())


def words_of(file: Path, facts: Facts) -> str:
    """Return what people read of a file, without constants of the method and the works that it cites."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".html":
        text = re.sub(r"<(style|svg|pre|title)\b.*?</\1>", " ", text, flags=re.S)
        text = html.unescape(re.sub(r"<[^>]+>", " ", text))
    works = [work.text for work in list_works(facts)]
    for work in sorted([*works, *map(mark, works), *(work.replace('"', '""') for work in works)], key=len)[::-1]:
        text = text.replace(work, " ")
    for pattern in NO_RESULT:
        text = re.sub(pattern, " ", text)
    return re.sub(r"\s+", " ", text)


def untold(file: Path, facts: Facts, known: np.ndarray, constants: Iterable[float]) -> list[str]:
    """Return the numbers of a file without a source, each with the words around it."""
    text = words_of(file, facts)
    allowed = np.concatenate([known, np.array(list(constants), float)])
    return [
        text[max(0, match.start() - 60) : match.end() + 30]
        for match in NUMBER.finditer(text)
        if not is_told(match.group(), allowed)
    ]


CONSTANTS = (50, 84, 8, 10, 15, 100, 3)
"""Blocks of the bootstrap in km, elements of ODMAP, and limits of the page's lists."""


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    run = make_run(tmp_path)
    write_tables(tmp_path / "evaluation", unlike_numbers(make_tables()))
    write_report(run)
    return gather_facts(run)


@pytest.mark.parametrize("name", ["methods.md", "model_card.md", "odmap.csv", "report.html"])
def test_every_number_of_a_report_has_a_source(facts: Facts, name: str) -> None:
    filled = pl.read_csv(facts.run.path / "odmap.csv").filter(pl.col("status") == "filled").height
    known = np.array(sources(facts))
    text = words_of(facts.run.path / name, facts)
    assert len(NUMBER.findall(text)) > 30
    assert untold(facts.run.path / name, facts, known, (*CONSTANTS, filled, 84 - filled)) == []


def test_a_number_without_a_source_is_found_and_epochs_are_those_kept(facts: Facts) -> None:
    file = facts.run.path / "methods.md"
    known, whole = np.array(sources(facts)), file.read_text()
    score = f"{facts.model['sample_f1']:.3f}"
    assert whole.count(score) == 1
    for wrong in (0.9981, 0.0093):
        file.write_text(whole.replace(score, str(wrong)))
        assert len(untold(file, facts, known, CONSTANTS)) == 1
    assert "The best epoch was 3" in whole  # member.json says 2, counted from 0
