"""Small inputs for report pages, and a strict look at what was written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from releve.config import make_config
from releve.report.demo import DemoResult
from releve.runs.folder import Run
from releve.train.members import Member
from stores import make_mixed_store, make_store

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


def make_tables(name: str = "tiny", *, references: bool = True, copies: int = 1) -> dict[str, pl.DataFrame]:
    """Return an evaluation of four plots, many times over: F1 1, 2/3, 2/3 and 0, so that sF1 is 7/12 = 0.583.

    A reference model finds species 1 everywhere: F1 2/3, 0, 2/3, 0, so that its sF1 is 1/3 and the gain 1/4.
    """
    number = 4 * copies
    place = np.arange(number)
    scores: list[dict[str, Any]] = [
        {"model": name, "is_model": True, "sample_f1": 7 / 12, "sample_f1_low": 0.55, "sample_f1_high": 0.65}
        | {"macro_f1": 0.41, "macro_f1_low": 0.38, "macro_f1_high": 0.44, "auc_macro": 0.75, "num_species_scored": 2}
        | {"richness_bias": 0.25, "richness_mae": 0.75, "calibration_slope": 0.8},
        {"model": "frequency", "is_model": False, "sample_f1": 1 / 3, "sample_f1_low": 0.25, "sample_f1_high": 0.35}
        | {"macro_f1": 0.12, "auc_macro": 0.5, "gain": 0.25, "gain_low": 0.2, "gain_high": 0.31},
    ]
    groups = {"group": ["1-10", "11-30"], "num_species": [2, 1]}
    lists = {"num_observed": [2, 1, 2, 1] * copies, "num_predicted": [2, 2, 1, 1] * copies}
    return {
        "scores": pl.DataFrame(scores if references else scores[:1]),
        "surveys": pl.DataFrame(
            {"survey_id": place, "lon": 2.0 + 0.7 * (place % 7), "lat": 45.0 + 0.5 * (place % 5), "year": 2020}
            | {"country": "France", "region": None, "fold": place % 2, "f1": [1.0, 2 / 3, 2 / 3, 0.0] * copies}
            | lists
            | {"num_hit": [2, 1, 1, 0] * copies, "distance_km": 12.0, "novelty": float("nan")}
        ),
        "species": pl.DataFrame(
            {"species_index": [0, 1, 2], "species_id": [1001, 1002, 1003], "num_train": [30, 20, 4]}
            | {"num_true": [3 * copies, 2 * copies, copies], "num_predicted": [4 * copies, 2 * copies, 0]}
            | {"num_hit": [3 * copies, copies, 0], "precision": [0.75, 0.5, None], "recall": [1.0, 0.5, 0.0]}
            | {"f1": [6 / 7, 0.5, 0.0], "auc": [0.9, 0.6, float("nan")]}
        ),
        "frequency_classes": pl.DataFrame(
            groups | {"macro_f1": [0.05, 0.5], "macro_f1_low": [0.01, 0.4], "macro_f1_high": [0.1, 0.6]}
        ),
        "countries": pl.DataFrame(
            {"group": ["France", "Italy <b>"], "num_surveys": [3, 1], "sample_f1": [0.7, 0.234]}
            | {"sample_f1_low": [0.6, float("nan")], "sample_f1_high": [0.8, float("nan")]}
        ),
        "reliability": pl.DataFrame(
            {"mean_prob": [0.1, 0.5, 0.1], "observed_share": [0.2, 0.45, 0.3], "num_cells": [100, 60, 40]}
            | {"prevalence_class": ["all", "all", "1-10"]}
        ),
        "calibration": pl.DataFrame(
            {"prevalence_class": ["all", "1-10"], "slope": [0.97, 0.61], "brier": [0.01, 0.02]}
        ),
        "examples": pl.DataFrame(
            {"survey_id": [1, 1, 1, 1], "species_id": [1001, 1002, 1003, 1004]}
            | {"probability": [0.9, 0.2, 0.61, 0.72], "is_observed": [True, True, False, False]}
            | {"is_predicted": [True, False, True, True]}
        ),
        "coverage": pl.DataFrame(
            {"grouping": ["all", "country"], "group": ["all", "Italy"], "target": [0.9, 0.9], "coverage": [0.912, 0.8]}
            | {"coverage_low": [0.88, 0.7], "coverage_high": [0.94, 0.9], "list_length": [40.0, 31.5]}
            | {"num_surveys": [4, 1]}
        ),
    }


def write_tables(folder: Path, tables: dict[str, pl.DataFrame], *, parquet: bool = True) -> None:
    """Write tables as an evaluation does, as CSV and Parquet; or as older ones did, CSV alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
        if parquet:
            table.write_parquet(folder / f"{name}.parquet")


LEAKAGE = {"num_train": 1234, "num_val": 4, "num_buffer": 7, "nearest_train_km": 1.25, "median_train_km": 19.75}
DECISION = {
    "rule": "expected_f1",
    "setting": None,
    "kinds": {"network": {"calibration": {"method": "linear", "slope": 0.8, "intercept": -0.25}, "share": 1.0}},
}


def make_run(
    path: Path,
    *,
    title: str = "tiny",
    folds: int = 2,
    records: bool = False,
    recipe: dict[str, Any] | None = None,
    manifest: dict[str, Any] | None = None,
) -> Run:
    """Return a run of one network a fold, with learning curves of three epochs, on a store in memory.

    Parameters
    ----------
    path
        Its folder.
    title, folds
        Of the run.
    records
        Give the store presence-only rows beside its plots.
    recipe
        Sections of the recipe.
    manifest
        What to change in the store's manifest.
    """
    recipe = recipe or {}
    split = {"buffer_km": 2.5, "num_folds": 3}
    config = make_config({"title": title, "split": split} | recipe, origin="test")
    store = make_mixed_store() if records else make_store()
    facts = {
        "release": "glc24",
        "origin": "GeoLifeCLEF <2024>",
        "leakage": [{"fold": f} | LEAKAGE for f in range(3)],
        "dropped": {"train": {"duplicate survey-species pair": 6754, "nothing to drop": 0}},
        "problems": [
            {"split": "train", "modality": "patch", "survey_id": 77, "path": "a/<b>.tif", "what": "truncated"}
        ],
        "fingerprint": "f" * 64,
        "recipe": {"data": {"records": "po"}} if records else {},
    }
    store = replace(store, manifest=store.manifest.model_copy(update=facts | (manifest or {})))
    members = tuple(Member(i, i, 1000 + i) for i in range(folds))
    for member in members:
        (path / member.name).mkdir(parents=True)
        logs = [
            {"epoch": e, "train_loss": 3.0 - e, "selection_loss": 3.5 - e, "selection_sf1": 0.1 * (e + 1)}
            for e in range(3)
        ]
        kept = {"best_epoch": 2, "selection_sf1": 0.3}
        (path / member.name / "member.json").write_text(json.dumps(kept))
        (path / member.name / "metrics.jsonl").write_text("".join(json.dumps(log) + "\n" for log in logs))
    provenance = {"releve": "0.1.0", "git_commit": "abcdef0123456", "python": "3.11.7", "packages": {"torch": "2.9.9"}}
    (path / "run.json").write_text(json.dumps(provenance | {"seconds": 75.0, "finished": "2026-01-02T03:04:05Z"}))
    (path / "decision.json").write_text(json.dumps(DECISION))
    run = Run(path, config, 42, members)
    run.__dict__["store"] = store  # in place of the one on disk
    return run


def make_joint(path: Path) -> Run:
    """Return an ensemble of ``plain``, whose store has plots alone, and ``other``, blind to places, with records.

    The plots are the same; ``other`` has seed 43, a network for each of two folds as ``plain``, and one on all rows.
    """
    plain = make_run(path / "plain", recipe={"model": {"modalities": ["covariates", "location"]}})
    differs = {"model": {"modalities": ["covariates"]}, "train": {"regime": "presence"}, "data": {"records": "po"}}
    other = make_run(path / "other", records=True, recipe=differs)
    other = replace(other, seed=43, members=(*other.members, Member(2, None, 1002)))
    other.__dict__["store"] = make_run(path / "again", records=True).store
    shares = {"plain/network": 0.75, "other/network": 0.25}
    calibration = DECISION["kinds"]["network"]["calibration"]  # type: ignore[index]
    kinds = {kind: {"calibration": calibration, "share": share} for kind, share in shares.items()}
    folder = path / "joint"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"releve": "0.1.0", "finished": "2026-01-03T00:00:00Z"}))
    (folder / "decision.json").write_text(json.dumps(DECISION | {"kinds": kinds}))
    config = make_config(plain.config.model_dump(mode="json") | {"title": "ensemble of plain, other"}, origin="test")
    return Run(folder, config, 7, (), (plain, other))


def make_demo(**changes: Any) -> DemoResult:
    """Return a demo with two seeds of two models, a reference model and the oracle."""
    rows = [
        ("all modalities", "fused", 0, 0.40, 0.2, 0.8),
        ("all modalities", "fused", 1, 0.44, 0.3, 0.9),
        ("covariates", "modality", 0, 0.35, 0.1, None),
        ("covariates", "modality", 1, 0.31, None, float("nan")),
        ("patch", "modality", 0, 0.21, 0.1, 0.6),
        ("extra trees", "reference", 0, 0.30, 0.1, 0.7),
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
