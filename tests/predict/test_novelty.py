"""How new places are to a run: the index of the network's features, what is beyond training, and the threshold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.linear_model import Ridge

from releve import pipeline
from releve.config import make_config
from releve.data.statistics import measure_statistics
from releve.errors import RunError
from releve.lists import Lists
from releve.models.model import build_model
from releve.predict.novelty import (
    Novelty,
    Space,
    covariates_of,
    first_part,
    join_distances,
    nearest,
    read_novelty,
    write_novelty,
)
from releve.predict.novelty_fit import (
    chosen_member,
    fit_novelty,
    importance,
    is_trained_on,
    main_axes,
    spread_out,
    upper_whisker,
)
from releve.runs.claim import remove_run
from releve.runs.ensemble import make_ensemble
from releve.runs.folder import NOVELTY_FILE, Run, open_run
from releve.runs.predict import gatherer_for
from releve.store.read import Store, StoredArray
from releve.train.members import Member
from stores import make_mixed_store, make_store

CONTENT = {
    "data": {"modalities": ["covariates"]},
    "split": {"num_folds": 3},
    "model": {"modalities": ["covariates", "survey", "location"], "embedding_dim": 16, "hidden_dim": 16},
    "train": {"num_folds": 2, "epochs": 2, "batch_size": 64, "device": "cpu"},
}
HIGH = 1e4


def train(folder: Path, release: Path, **train: object) -> Run:
    config = make_config(CONTENT | {"train": CONTENT["train"] | train}, origin="test")  # type: ignore[operator]
    return pipeline.train(config, pipeline.prepare(config, release, folder / "store"), folder / "run")


@pytest.fixture(scope="module")
def run(labelled_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("novelty"), labelled_release)


@pytest.fixture(scope="module")
def trees(labelled_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("novelty-trees"), labelled_release, kinds=["booster"])


@pytest.fixture(params=["run", "trees"])
def either(request: pytest.FixtureRequest) -> Run:
    return request.getfixturevalue(request.param)


def with_covariate(store: Store, name: str, values: object) -> Store:
    array = store.arrays["covariates"]
    table = array.values[array.row_of].copy()
    table[:, array.spec.channels.index(name)] = values
    changed = StoredArray(array.spec, table, np.arange(len(store)))
    return replace(store, arrays=store.arrays | {"covariates": changed})


def with_facts(store: Store, **facts: object) -> Store:
    kinds = store.surveys.schema
    return replace(store, surveys=store.surveys.with_columns(pl.lit(x, kinds[n]).alias(n) for n, x in facts.items()))


def test_training_rows_are_not_new_and_what_a_row_gets_does_not_depend_on_the_others(either: Run) -> None:
    novelty, rows = read_novelty(either), np.arange(len(either.store))
    found = novelty.of(either, either.store, rows)
    assert len(rows) < 2000 and found.dissimilarity.max() < 0.01 and found.inside.all()
    assert found.mess.dtype == np.float32 and found.most_dissimilar.dtype == np.int16
    assert found.mess.min() >= 0 and found.mess.max() <= 100
    alone = novelty.of(either, either.store, rows[7:8])
    for name in ("mess", "most_dissimilar", "dissimilarity", "inside"):
        np.testing.assert_allclose(getattr(alone, name)[0], getattr(found, name)[7], atol=1e-3)
    turned = novelty.of(either, either.store, rows[::-1])
    np.testing.assert_array_equal(turned.most_dissimilar[::-1], found.most_dissimilar)
    assert novelty.of(either, either.store, rows[:0]).inside.shape == (0,)


def test_the_farther_a_covariate_is_beyond_training_the_newer_is_a_place_and_it_is_named(either: Run) -> None:
    novelty, rows = read_novelty(either), np.arange(len(either.store))
    bio5 = novelty.quantiles_NQ[novelty.numbers.index("Bio5")]
    low, high = float(bio5[0]), float(bio5[-1])
    found = [
        novelty.of(either, with_covariate(either.store, "Bio5", high + far * (high - low)), rows) for far in (0, 1, 3)
    ]
    assert (found[1].mess == pytest.approx(-100)) and (found[2].mess == pytest.approx(-300))
    assert {novelty.variables[i] for i in found[2].most_dissimilar} == {"Bio5"}
    assert (found[2].dissimilarity > found[1].dissimilarity).all()
    assert (found[1].dissimilarity > found[0].dissimilarity).all() and not found[2].inside.any()


def test_facts_of_a_survey_make_no_place_new(either: Run) -> None:
    rows = np.arange(len(either.store))
    before = read_novelty(either).of(either, either.store, rows)
    strange = with_facts(either.store, area_m2=1e6, year=1900, country="Nowhere", region="ALPINE", uncertainty_m=9e5)
    after = read_novelty(either).of(either, strange, rows)
    np.testing.assert_array_equal(after.dissimilarity, before.dissimilarity)
    np.testing.assert_array_equal(after.mess, before.mess)


def test_a_place_of_which_nothing_is_known_is_not_inside(either: Run) -> None:
    array = either.store.arrays["covariates"]
    bare = replace(either.store, arrays={"covariates": replace(array, row_of=np.full(len(either.store), -1))})
    found = read_novelty(either).of(either, bare, np.arange(4))
    assert np.isnan(found.mess).all() and (found.most_dissimilar == -1).all() and not found.inside.any()
    empty = read_novelty(either).of(either, with_values(either.store, np.nan), np.arange(4))
    assert np.isnan(empty.mess).all() and not empty.inside.any()
    one = with_covariate(with_values(either.store, np.nan), "Bio5", array.values[array.row_of][:, 4])
    assert not np.isnan(read_novelty(either).of(either, one, np.arange(4)).mess).any()


def with_values(store: Store, value: float) -> Store:
    array = store.arrays["covariates"]
    table = np.full((len(store), len(array.spec.channels)), value, np.float32)
    return replace(store, arrays={"covariates": StoredArray(array.spec, table, np.arange(len(store)))})


def test_the_index_is_the_distance_to_the_nearest_row_in_features_and_covariates_by_importance(run: Run) -> None:
    """Worked out another way: of all pairs of rows, without axes, importance by scikit-learn."""
    novelty, space = read_novelty(run), Space(run.models[0], run)
    gatherer, rows = gatherer_for(run.models[0], run.store), np.arange(len(run.store))
    with torch.inference_mode():
        batch = gatherer.batch(rows)
        features = space.of(batch).double().numpy()
        values_BK = covariates_of(batch, run.models[0], novelty.variables)
    assert space.num_made == 16 and features.shape == (240, 16 + len(novelty.numbers))
    labels = run.store.labels.to_csr(len(run.store.species_ids)).toarray()
    ridge = Ridge(alpha=0.1 * len(rows)).fit(features[:, 16:], labels)
    columns = features[:, 16:] * np.linalg.norm(ridge.coef_, axis=0)
    upper = np.triu_indices(len(rows), 1)
    scaled = np.hstack([each / cdist(each, each)[upper].mean() for each in (features[:, :16], columns)])
    moved = features.copy()
    moved[:, :16] += 0.3 * np.random.default_rng(0).normal(size=(len(rows), 16))
    shift = (moved - features)[:, :16] / cdist(features[:, :16], features[:, :16])[upper].mean()
    elsewhere = scaled + np.hstack([shift, np.zeros_like(columns)])
    expected = cdist(elsewhere, scaled).min(axis=1) / cdist(scaled, scaled)[upper].mean()
    found = novelty.dissimilarity(torch.from_numpy(moved).float(), values_BK)
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_the_threshold_is_that_of_rows_predicted_from_other_folds(run: Run) -> None:
    """By loops over rows: within the buffer of another fold none is compared with."""
    novelty, store = read_novelty(run), run.store
    assert run.config.split.buffer_km > 0
    bare = replace(
        run, config=run.config.model_copy(update={"split": run.config.split.model_copy(update={"buffer_km": 0.0})})
    )
    alone = fit_novelty(bare)
    points = alone.rows_RD
    features = []
    for fold in range(3):
        inside = store.folds == fold
        distance = torch.from_numpy(cdist(points[inside], points[~inside]).min(axis=1)).float()
        table = store.arrays["covariates"].values[store.arrays["covariates"].row_of]
        at = [store.arrays["covariates"].spec.channels.index(name) for name in alone.numbers]
        known, held = table[~inside][:, at], table[inside][:, at]
        out = np.maximum(np.nanmin(known, axis=0) - held, held - np.nanmax(known, axis=0)).clip(min=0)
        spread = np.nanquantile(known, np.linspace(0, 1, 101), axis=0).std(axis=0)
        out = np.where(spread > 0, np.nan_to_num(out) / np.maximum(spread, 1e-9), 0)
        features.append(join_distances(distance, torch.from_numpy(out).float()))
    distances = torch.cat(features).numpy()
    low, high = np.quantile(distances, [0.25, 0.75])
    assert float(alone.threshold) == pytest.approx(min(distances.max(), high + 1.5 * (high - low)), rel=1e-3)
    assert float(novelty.threshold) >= float(alone.threshold)


def test_places_are_compared_in_a_network_that_held_out_nothing(run: Run) -> None:
    def with_members(*members: tuple[int | None, str]) -> Run:
        return replace(run, members=tuple(Member(i, fold, 0, kind) for i, (fold, kind) in enumerate(members)))

    assert chosen_member(with_members((0, "forest"), (0, "network"), (1, "network"), (None, "network"))) == 3
    assert chosen_member(with_members((0, "forest"), (0, "network"), (1, "network"))) == 1
    assert chosen_member(with_members((0, "booster"), (None, "booster"))) == 1
    rows = np.arange(len(run.store))
    assert is_trained_on(run, rows).all()
    assert is_trained_on(with_members((None, "network")), rows).all()
    np.testing.assert_array_equal(
        is_trained_on(with_members((1, "network"), (1, "forest")), rows), run.store.folds != 1
    )


def test_a_run_of_one_fold_compares_with_the_rows_of_the_others(run: Run) -> None:
    found = fit_novelty(replace(run, members=run.members[:1]))
    assert len(found.rows_RD) == (run.store.folds != 0).sum()


def run_on(store: Store, *modalities: str) -> Run:
    """Return an untrained run of one network on a store in memory, which held out the first fold."""
    sizes = {"embedding_dim": 16, "hidden_dim": 24, "patch_backbone": "test_resnet", "patch_pool": 4}
    model = sizes | {"modalities": modalities, "fusion": "direct" if len(modalities) == 1 else "concat"}
    config = make_config({"model": model, "train": {"device": "cpu"}}, origin="test")
    rows = np.flatnonzero(store.folds != 0)
    observed = (*modalities, "observation")
    statistics = measure_statistics(store, rows, observed, rng=np.random.default_rng(0))  # type: ignore[arg-type]
    run = Run(Path("memory"), config, 0, (Member(0, 0, 0),))
    return_of = {"store": store, "models": (build_model(statistics, config.model, seed=0).eval(),)}
    run.__dict__.update(return_of)  # as the run would read them
    return run


@pytest.mark.parametrize(
    "modalities",
    [
        ("location",),
        ("survey",),
        ("landsat",),
        ("covariates", "survey", "location", "landsat", "climate", "patch"),
    ],
    ids=" ".join,
)
def test_whatever_a_run_looks_at_its_rows_are_inside_and_their_facts_do_not_matter(modalities: tuple[str, ...]) -> None:
    store = make_store(120)
    run, rows = run_on(store, *modalities), np.arange(len(store))
    novelty = fit_novelty(run)
    found = novelty.of(run, store, rows)
    trained = store.folds != 0
    assert len(novelty.rows_RD) == trained.sum() and novelty.rows_RD.shape[1] <= 32
    assert found.dissimilarity[trained].max() < 0.01
    seen = np.any(
        [store.arrays[name].row_of >= 0 for name in modalities if name in store.arrays] or [rows >= 0], axis=0
    )
    assert found.inside[trained & seen].all() and not found.inside[~seen].any()
    assert ("covariates" in modalities) == bool(novelty.variables) == bool(np.isfinite(found.mess).any())
    strange = with_facts(store, area_m2=1e6, country="Nowhere", uncertainty_m=9e5)
    np.testing.assert_array_equal(novelty.of(run, strange, rows).dissimilarity, found.dissimilarity)
    if modalities != ("survey",):
        assert found.dissimilarity[~trained].max() > 0.01


def test_classes_are_columns_of_their_own_and_a_class_that_is_new_is_named() -> None:
    store = make_store(150, missing=0.0)
    run = run_on(store, "covariates", "survey")
    novelty, space = fit_novelty(run), Space(run.models[0], run)
    assert novelty.variables == ("warmth", "rain", "soil", "cover") and novelty.codes == ((0.0, 1.0, 2.0),)
    cover = store.arrays["covariates"].values[store.arrays["covariates"].row_of, 3]
    columns = space.of(gatherer_for(run.models[0], store).batch(np.arange(150)))[:, -3:].detach()
    np.testing.assert_array_equal(columns, cover[:, None] == np.arange(3))
    found = novelty.of(run, with_covariate(store, "cover", 7.0), np.arange(9))
    assert (found.mess == -100).all() and (found.most_dissimilar == 3).all()


def test_new_is_what_is_unlike_the_plots_or_where_there_are_none_the_records() -> None:
    store = make_mixed_store(90, 150)
    modalities = ("covariates", "location", "survey")
    mixed, records = run_on(store, *modalities), run_on(store.take(np.arange(90, 240)), *modalities)
    assert len(fit_novelty(mixed).rows_RD) == (store.is_plot & (store.folds != 0)).sum()
    novelty = fit_novelty(records)
    assert len(novelty.rows_RD) == (store.folds[90:] != 0).sum()
    assert novelty.of(records, store, np.arange(90)).dissimilarity.max() > 0.01


def test_axes_keep_distances_of_scaled_features() -> None:
    features = torch.randn((50, 6), generator=torch.Generator().manual_seed(0))
    scales = torch.arange(6.0)
    centre, axes = main_axes(features, scales)
    found = (features - centre) @ axes
    np.testing.assert_allclose(cdist(found, found), cdist(features * scales, features * scales), atol=1e-5)


def test_a_covariate_counts_for_what_it_tells_of_the_species() -> None:
    """Both species follow the second column: one likes it, one shuns it."""
    columns = torch.randn((400, 3), generator=torch.Generator().manual_seed(0))
    high = (columns[:, 1] > 0).tolist()
    weights = importance(columns, Lists.from_rows([[0] if each else [1] for each in high]), 2)
    assert weights[1] > 8 * weights[0] and weights[1] > 8 * weights[2]


def test_rows_that_are_kept_are_spread_out() -> None:
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 3))).float()
    kept = spread_out(points, 40)
    assert len(set(kept.tolist())) == 40 and spread_out(points, 300).tolist() == list(range(300))
    to_kept = cdist(points, points[kept]).min(axis=1)
    among = cdist(points[kept], points[kept])[np.triu_indices(40, 1)]
    assert to_kept.max() <= among.min()


def test_the_nearest_row_is_found_and_its_distance_is_exact() -> None:
    rng = np.random.default_rng(0)
    rows, points = (torch.from_numpy(rng.normal(100.0, 1.0, size)).float() for size in ((200, 5), (50, 5)))
    np.testing.assert_allclose(nearest(points, rows), cdist(points, rows).min(axis=1), rtol=1e-3)
    assert nearest(rows, rows).max() == 0


def test_the_whisker_is_the_highest_where_that_is_lower() -> None:
    assert float(upper_whisker(torch.arange(5.0))) == 4.0
    assert float(upper_whisker(torch.tensor([0.0, 1, 2, 3, 100]))) == 6.0
    assert float(upper_whisker(torch.zeros(0))) == np.inf


def test_what_was_learned_is_read_again_removed_with_the_run_and_missed_where_it_is_not(
    run: Run, tmp_path: Path
) -> None:
    novelty = read_novelty(run)
    shutil.copytree(run.path, tmp_path / "run")
    copied = open_run(tmp_path / "run")
    write_novelty(copied, replace(novelty, codes=((1.0, 2.0),), classes=("soil",)))
    again = read_novelty(copied)
    assert again.variables == (*novelty.numbers, "soil") and again.codes == ((1.0, 2.0),)
    torch.testing.assert_close(again.rows_RD, novelty.rows_RD, rtol=0, atol=0)
    (copied.path / NOVELTY_FILE).unlink()
    with pytest.raises(RunError, match=r"does not know how new .* Train it again"):
        read_novelty(copied)
    table = pipeline.describe_places(copied, run.store)
    assert table["mess"].null_count() == table["inside_area"].null_count() == len(table)
    write_novelty(copied, novelty)
    remove_run(copied.path)
    assert not (copied.path / NOVELTY_FILE).exists()


def test_an_ensemble_takes_its_first_part(run: Run, trees: Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "a", ignore=shutil.ignore_patterns("stores"))
    shutil.copytree(trees.path, tmp_path / "b", ignore=shutil.ignore_patterns("stores"))
    joined = make_ensemble([tmp_path / "a", tmp_path / "b"], tmp_path / "joined")
    assert first_part(joined).path == tmp_path / "a" and first_part(run) is run
    store, rows = with_covariate(run.store, "Bio5", HIGH), np.arange(9)
    expected = read_novelty(run).of(run, store, rows)
    found = read_novelty(joined).of(joined, store, rows)
    np.testing.assert_allclose(found.dissimilarity, expected.dissimilarity, rtol=1e-4)


def test_a_class_that_training_did_not_know_is_new() -> None:
    """As one standard deviation beyond the range, of three covariates."""
    novelty = Novelty(
        member=0,
        numbers=("warmth", "rain"),
        classes=("soil",),
        codes=((1.0, 2.0),),
        quantiles_NQ=torch.linspace(0, 10, 101).repeat(2, 1),
        centre_F=torch.zeros(2),
        axes_FD=torch.eye(2),
        rows_RD=torch.zeros(1, 2),
        threshold=torch.tensor(1.0),
    )
    values = torch.tensor([[5.0, 5.0, 2.0], [5.0, 5.0, 3.0], [5.0, torch.nan, torch.nan]])
    assert novelty.similarity(values)[:, 2].nan_to_num(0).tolist() == [100.0, -100.0, 0.0]
    found = novelty.dissimilarity(torch.zeros(3, 2), values)
    assert found.tolist() == pytest.approx([0.0, (2 / 3) ** 0.5, 0.0])
