"""Small inputs for report pages, and a strict look at what was written."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from releve.config import make_config
from releve.decide import reliability_table
from releve.evaluate import Entry, Evaluation
from releve.members import Member
from releve.metrics import Lists, rank_scores, score_sets
from releve.report import DemoResult

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
LOADING = {"src", "href", "srcset", "poster", "data", "action"}


class Page(HTMLParser):
    """A page whose tags must close in order; collects text, ids and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in LOADING]

    @property
    def text(self) -> str:
        """All words, with single blanks."""
        return re.sub(r"\s+", " ", " ".join(self.words))


def open_page(path: Path) -> Page:
    """Return a page after checking that it is whole, loads nothing and repeats no id."""
    page = Page(path.read_text(encoding="utf-8"))
    assert page.source.startswith("<!doctype html>")
    assert "http://" not in page.source and "https://" not in page.source
    assert not re.search(r"url\((?!#)|@import", page.source)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", page.source))
    assert targets <= set(page.ids)
    return page


def make_entry(name: str, predicted: list[list[int]], truth: list[list[int]], num_species: int, low: float) -> Entry:
    """Return the scores of lists, with a made-up interval that starts at ``low``."""
    lists = Lists.from_rows(predicted)
    scores = np.full((len(truth), num_species), 0.1) + 0.8 * lists.to_csr(num_species).toarray()
    observed = Lists.from_rows(truth)
    return Entry(name, score_sets(lists, observed, num_species), rank_scores(scores, observed), low, low + 0.1)


def make_evaluation(name: str = "tiny", *, baselines: bool = True, copies: int = 1, spread: bool = True) -> Evaluation:
    """Return scores of four plots, many times over: F1 1, 2/3, 2/3 and 0, so that sF1 is 7/12 = 0.583.

    A reference model finds species 0 everywhere: F1 2/3, 1, 2/3, 0 with lists of one.
    """
    truth = [[0, 1], [0], [0, 1], [2]] * copies
    predicted = [[0, 1], [0, 1], [0], [0]] * copies
    model = make_entry(name, predicted, truth, 3, 0.55)
    entries = [model, make_entry("frequency", [[1]] * len(truth), truth, 3, 0.25)] if baselines else [model]
    place = np.arange(len(truth)) if spread else np.zeros(len(truth))
    surveys = pl.DataFrame(
        {
            "survey_id": np.arange(len(truth)),
            "lon": 2.0 + 0.7 * (place % 7),
            "lat": 45.0 + 0.5 * (place % 5),
            "year": 2020,
            "country": "France",
            "fold": np.arange(len(truth)) % 2 if spread else 0,
            "f1": model.sets.per_survey_f1,
            "num_observed": Lists.from_rows(truth).lengths(),
            "num_predicted": Lists.from_rows(predicted).lengths(),
        }
    )
    ranks = {"auc": model.ranks.auc_S, "average_precision": model.ranks.ap_S}
    species = pl.DataFrame({"species_index": np.arange(3), "species_id": [1001, 1002, 1003], **ranks})
    species = species.join(model.sets.per_species, on="species_index", how="left")
    probs = np.full((len(truth), 3), 0.25)
    return Evaluation(entries, surveys, species, reliability_table(probs, Lists.from_rows(truth)))


def make_run(path: Path, *, title: str = "tiny", folds: int = 2, num_plots: int = 8) -> Any:
    """Return a stand-in for a run of one member a fold, with learning curves of three epochs."""
    members = tuple(Member(i, i, i) for i in range(folds))
    for member in members:
        (path / member.name).mkdir(parents=True)
        logs = [{"epoch": e, "train_loss": 3.0 - e, "val_loss": 3.5 - e, "val_sf1": 0.1 * (e + 1)} for e in range(3)]
        (path / member.name / "metrics.jsonl").write_text("".join(json.dumps(log) + "\n" for log in logs))
    record = {"releve": "0.1.0", "git_commit": "abcdef0123456", "python": "3.11.7", "packages": {"torch": "2.9.9"}}
    (path / "run.json").write_text(json.dumps(record | {"seconds": 75.0, "finished": "2026-01-02T03:04:05Z"}))
    leakage = [
        {
            "fold": f,
            "num_train": 1234,
            "num_val": 4,
            "num_buffer": 7,
            "nearest_train_km": 1.25,
            "median_train_km": 19.75,
        }
        for f in range(2)
    ]
    manifest = SimpleNamespace(
        release="glc24",
        origin="GeoLifeCLEF <2024>",
        num_surveys=num_plots,
        num_species=3,
        num_folds=2,
        leakage=leakage,
        dropped={"train": {"duplicate survey-species pair": 6754, "nothing to drop": 0}},
        problems=[{"split": "train", "modality": "patch", "survey_id": 77, "path": "a/<b>.tif", "what": "truncated"}],
        fingerprint="f" * 64,
    )
    row_of = np.where(np.arange(num_plots) < num_plots - 3, np.arange(num_plots), -1)
    store = SimpleNamespace(
        manifest=manifest,
        arrays={"covariates": SimpleNamespace(row_of=row_of, spec=SimpleNamespace(shape=(4, 2)))},
        lon=np.linspace(2, 5, num_plots),
        lat=np.linspace(45, 46, num_plots),
        folds=np.arange(num_plots) % 2,
    )
    config = make_config({"title": title, "split": {"buffer_km": 2.5}}, origin="test")
    return SimpleNamespace(path=path, config=config, seed=42, members=members, store=store)


def make_demo(**changes: Any) -> DemoResult:
    """Return a demo with two seeds of two models, a reference model and the oracle."""
    rows = [
        ("all modalities", "fused", 0, 0.40, 0.2, 0.8),
        ("all modalities", "fused", 1, 0.44, 0.3, 0.9),
        ("covariates", "modality", 0, 0.35, 0.1, None),
        ("covariates", "modality", 1, 0.31, None, float("nan")),
        ("patch", "modality", 0, 0.21, 0.1, 0.6),
        ("extra trees", "baseline", 0, 0.30, 0.1, 0.7),
        ("oracle", "oracle", 0, 0.61, None, None),
    ]
    columns = ["model", "kind", "seed", "sample_f1", "macro_f1", "auc_macro"]
    facts: dict[str, Any] = {
        "title": "A <b>small</b> world",
        "seconds": 75.0,
        "seeds": (0, 1),
        "facts": {"training plots": "3,000"},
        "scores": pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None),
        "plots": pl.DataFrame(
            {
                "lon": [1.0, 2.0, 3.0],
                "lat": [45.0, 46.0, 47.0],
                "set": ["train", "test", "test"],
                "country": ["F", "F", None],
                "f1": [None, 0.5, 0.25],
            }
        ),
        "examples": pl.DataFrame(
            {"survey_id": [9], "country": ["Italy"], "predicted": ["5 8"], "observed": ["8 11"], "f1": [0.5]}
        ),
        "runtime": {"simulate": 1.5, "train": 70.0},
    }
    return DemoResult(**(facts | changes))
