"""Every kind of member keeps the one promise: logits of a row alone as among others, saved and read by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch

from releve.config import make_config
from releve.data.gather import Gatherer
from releve.data.statistics import measure_statistics
from releve.errors import ConfigError
from releve.lists import Lists
from releve.models.config import TABLES
from releve.models.kinds import TABLE_KINDS
from releve.store.read import Store
from releve.train.checkpoint import load_member
from releve.train.config import Kind
from releve.train.members import Member, fit_member, plan_members
from stores import make_store

CONTENT = {
    "model": {"modalities": list(TABLES)},
    "train": {"num_folds": 2, "kinds": ["network", *TABLE_KINDS]},
    "split": {"num_folds": 3},
}
CONFIG = make_config(CONTENT, origin="test")


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(120)


def test_a_recipe_can_name_every_kind_and_no_other() -> None:
    assert set(get_args(Kind)) == {"network", *TABLE_KINDS}


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_a_member_is_fitted_outside_its_fold_written_and_read(store: Store, kind: str, tmp_path: Path) -> None:
    member = Member(3, 1, 7, kind)
    fit_member(store, member, CONFIG, tmp_path / "all")
    model = load_member(tmp_path / "all", CONFIG.model, torch.device("cpu"))
    rows = np.flatnonzero(store.folds == 1)
    sets = [[7] if store.folds[i] == 1 else store.labels.row(i) for i in range(len(store))]
    fit_member(replace(store, labels=Lists.from_rows(sets)), member, CONFIG, tmp_path / "altered")
    for name in ("weights.safetensors", "statistics.json", "member.json"):
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "altered" / name).read_bytes(), name
    gatherer = Gatherer(store, model.modalities, model.statistics.categories)
    together = model(gatherer.batch(rows))
    assert together.shape == (len(rows), 8) and together.dtype == torch.float32
    assert (together.std(dim=0) > 0).any()
    for at in (0, 11):
        np.testing.assert_allclose(model(gatherer.batch(rows[[at]]))[0], together[at], atol=1e-5)


def test_a_member_that_is_done_is_left_as_it_is_when_resumed(store: Store, tmp_path: Path) -> None:
    fit_member(store, Member(0, 1, 7, "booster"), CONFIG, tmp_path)
    before = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    fit_member(store, Member(0, 1, 7, "booster"), CONFIG, tmp_path, resume=True)
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before


def test_each_fold_has_every_kind_with_seeds_of_their_own(store: Store) -> None:
    twice = make_config(CONTENT | {"train": {"num_folds": 2, "kinds": ["network", "network", "forest"]}}, origin="test")
    plan = plan_members(twice, store, seed=7)
    assert [(m.fold, m.seed, m.kind) for m in plan] == [
        (0, 7000, "network"),
        (0, 7001, "network"),
        (0, 7002, "forest"),
        (1, 7003, "network"),
        (1, 7004, "network"),
        (1, 7005, "forest"),
    ]


def constant(store: Store) -> Store:
    array = store.arrays["covariates"]
    return replace(
        store,
        arrays=store.arrays
        | {"covariates": replace(array, values=np.ones_like(array.values), row_of=np.arange(120) * 0)},
    )


def labelled(store: Store, sets: list[list[int]]) -> Store:
    return replace(store, labels=Lists.from_rows(sets))


POOR = {
    "ten rows": (make_store(15), {}, r"with fold 0 held out, there are \d+ rows to learn from, fewer than 20"),
    "constant covariates": (constant(make_store(120)), {"modalities": ["covariates"]}, "one and the same value"),
    "images alone": (make_store(120), {"modalities": ["landsat"]}, "looks at no table"),
    "one species everywhere": (labelled(make_store(120), [[0]] * 120), {}, "every species is on all rows or on none"),
    "all species everywhere": (labelled(make_store(120), [[*range(8)]] * 120), {}, "on all rows or on none"),
}


@pytest.mark.parametrize("case", POOR)
def test_kinds_that_cannot_learn_are_left_out_and_said(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    store, model, reason = POOR[case]
    content = CONTENT | {"model": CONTENT["model"] | model}
    plan = plan_members(make_config(content, origin="test"), store, seed=0)
    assert [(m.fold, m.kind) for m in plan] == [(0, "network"), (1, "network")]
    said = " ".join(capsys.readouterr().err.split())
    assert f"{' and '.join(TABLE_KINDS)} left out of train.kinds" in said
    with pytest.raises(ConfigError, match=reason) as refused:
        plan_members(
            make_config(content | {"train": {"num_folds": 2, "kinds": ["booster"]}}, origin="test"), store, seed=0
        )
    assert "Add 'network' to train.kinds" in str(refused.value)


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_where_the_facts_of_a_survey_are_unknown_they_are_left_open(kind: str) -> None:
    """Species 0 is on the large plots alone, half of all; it is not taken for absent where the area is not known."""
    store = make_store(400)
    large = (store.surveys["area_m2"] > 50).to_numpy()
    sets = [[s for s in store.labels.row(i) if s != 0] + ([0] if large[i] else []) for i in range(400)]
    store = labelled(store, sets)
    facts = ("area_m2", "uncertainty_m", "year", "country", "region")
    nothing = [pl.lit(None, store.surveys.schema[name]).alias(name) for name in facts]
    unknown = replace(store, surveys=store.surveys.with_columns(nothing))
    train, rows = np.arange(300), np.arange(300, 400)
    known = measure_statistics(store, train, TABLES, rng=np.random.default_rng(0))
    model = TABLE_KINDS[kind].fit(Gatherer(store, TABLES, known.categories), train, known, CONFIG, 0)
    with_area, without = (
        torch.sigmoid(model(Gatherer(each, TABLES, known.categories).batch(rows)))[:, 0] for each in (store, unknown)
    )
    assert with_area[large[rows]].mean() > 0.75 and with_area[~large[rows]].mean() < 0.25
    assert 0.3 < without.mean() < 0.7


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_one_species_among_others_unseen_and_a_constant_column_are_no_trouble(kind: str) -> None:
    store = labelled(make_store(120), [[3] if i % 3 else [] for i in range(120)])
    known = measure_statistics(store, np.arange(90), TABLES, rng=np.random.default_rng(0))
    gatherer = Gatherer(store, known.modalities, known.categories)
    model = TABLE_KINDS[kind].fit(gatherer, np.arange(90), known, CONFIG, 0)
    probs = torch.sigmoid(model(gatherer.batch(np.arange(90, 120))))
    assert (probs[:, [0, 1, 2, 4, 5, 6, 7]] < 1e-5).all() and 0.4 < float(probs[:, 3].mean()) < 0.9
