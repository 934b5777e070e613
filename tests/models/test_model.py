"""The whole model: missing modalities, time, prevalence, thousands of species, and the plain ResNet recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from releve.data.gather import Batch, Gatherer
from releve.data.statistics import Statistics, measure_statistics
from releve.errors import ConfigError
from releve.models.config import ModelConfig
from releve.models.fusion import drop_modalities
from releve.models.model import SpeciesModel, build_model
from releve.store.read import Store
from stores import make_store

ALL = ("covariates", "survey", "location", "landsat", "climate", "patch")
SMALL = ModelConfig(embedding_dim=8, hidden_dim=16, series_width=4, patch_backbone="test_resnet", years_back=5)


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(60)


@pytest.fixture(scope="module")
def statistics(store: Store) -> Statistics:
    return measure_statistics(store, np.arange(60), ALL, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def model(statistics: Statistics) -> SpeciesModel:
    return build_model(statistics, SMALL, seed=1).eval()


def gather(store: Store, statistics: Statistics, rows: np.ndarray, modalities: tuple[str, ...] = ALL) -> Batch:
    return Gatherer(store, modalities, statistics.categories).batch(rows)


def test_logits_of_a_survey_do_not_depend_on_its_batch(
    store: Store, statistics: Statistics, model: SpeciesModel
) -> None:
    rows = np.random.default_rng(0).permutation(60)
    with torch.inference_mode():
        together = model(gather(store, statistics, rows))
        alone = torch.cat([model(gather(store, statistics, rows[i : i + 1])) for i in range(60)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_modality_missing_in_the_store_is_one_that_every_survey_lacks(
    store: Store, statistics: Statistics, model: SpeciesModel
) -> None:
    array = store.arrays["landsat"]
    none = replace(store, arrays=store.arrays | {"landsat": replace(array, row_of=np.full(60, -1))})
    lacking = replace(store, arrays={name: array for name, array in store.arrays.items() if name != "landsat"})
    rows = np.arange(20)
    with torch.inference_mode():
        found = [model(gather(kind, statistics, rows)) for kind in (store, none, lacking)]
    assert torch.equal(found[1], found[2])
    has = torch.from_numpy(array.row_of[rows] >= 0)
    changed = (found[0] != found[1]).any(dim=1)
    assert torch.equal(changed, has)


@pytest.mark.parametrize("name", ["covariates", "landsat", "climate", "patch"])
def test_each_modality_counts(store: Store, statistics: Statistics, model: SpeciesModel, name: str) -> None:
    batch = gather(store, statistics, np.flatnonzero(store.arrays[name].row_of >= 0)[:4])
    turned = replace(batch, values=batch.values | {name: batch.values[name].flip(0)})
    with torch.inference_mode():
        assert not torch.allclose(model(batch), model(turned))


def test_surveys_of_which_nothing_is_known_get_finite_logits(statistics: Statistics, model: SpeciesModel) -> None:
    zero = torch.zeros(3, dtype=torch.int64)
    for training in (False, True):
        logits = model.train(training)(Batch({}, {}, zero, zero))
        assert logits.shape == (3, 8)
        assert logits.isfinite().all()
    model.eval()


@pytest.mark.parametrize("training", [False, True])
def test_surveys_that_lack_a_modality_do_not_move_its_batch_norms(
    store: Store, statistics: Statistics, training: bool
) -> None:
    having = np.flatnonzero(store.arrays["patch"].row_of >= 0)[:6]
    lacking = np.flatnonzero(store.arrays["patch"].row_of < 0)[:6]
    alone, mixed = (build_model(statistics, SMALL, seed=1).train(training) for _ in range(2))
    torch.manual_seed(0)
    alone.encoders["patch"].eval().network.train(training)  # without turning, which is random
    mixed.encoders["patch"].eval().network.train(training)
    alone(gather(store, statistics, having))
    mixed(gather(store, statistics, np.concatenate([lacking, having])))
    for (name, ours), theirs in zip(
        alone.encoders["patch"].named_buffers(), mixed.encoders["patch"].buffers(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_a_lone_survey_with_a_modality_trains(store: Store, statistics: Statistics) -> None:
    model = build_model(statistics, SMALL, seed=1).train()
    having = np.flatnonzero(store.arrays["patch"].row_of >= 0)[:1]
    for rows in (having, np.concatenate([having, np.flatnonzero(store.arrays["patch"].row_of < 0)])):
        assert model(gather(store, statistics, rows)).isfinite().all()


def test_one_place_in_two_years_gets_two_lists(store: Store, statistics: Statistics, model: SpeciesModel) -> None:
    rows = np.flatnonzero(store.arrays["landsat"].row_of >= 0)[:1]
    batch = gather(store, statistics, rows, ("landsat", "climate"))
    with torch.inference_mode():
        earlier, later = (model(replace(batch, year=torch.tensor([year]))) for year in (2018, 2019))
    assert not torch.allclose(earlier, later)


def test_an_untrained_model_predicts_about_the_prevalence(store: Store) -> None:
    many = make_store(400, seed=5)
    statistics = measure_statistics(many, np.arange(400), ALL, rng=np.random.default_rng(0))
    prevalence = torch.tensor(statistics.num_positives) / 400
    for fusion in ("concat", "direct"):
        modalities = ALL if fusion == "concat" else ("patch",)
        config = SMALL.model_copy(update={"fusion": fusion, "modalities": modalities})
        fresh = build_model(statistics, config, seed=0).eval()
        with torch.inference_mode():
            probs = torch.sigmoid(fresh(gather(many, statistics, np.arange(100))))
        torch.testing.assert_close(probs.mean(dim=0), prevalence, rtol=0.25, atol=0.03)


def test_a_species_without_a_training_row_starts_low_and_finite(statistics: Statistics) -> None:
    counts = [0, 60, *statistics.num_positives[2:]]
    fresh = build_model(statistics.model_copy(update={"num_positives": counts}), SMALL, seed=0)
    bias = fresh.head.bias.detach()
    assert bias[0].item() == pytest.approx(np.log(0.5 / 60.5), abs=1e-4)
    assert bias[1].item() == pytest.approx(np.log(60.5 / 0.5), abs=1e-4)


def test_a_head_for_11255_species_is_built_and_trained(store: Store, statistics: Statistics) -> None:
    num_species = 11_255
    large = statistics.model_copy(update={"species_ids": list(range(num_species)), "num_positives": [1] * num_species})
    config = SMALL.model_copy(update={"modalities": ("covariates", "location")})
    fresh = build_model(large, config, seed=0)
    logits = fresh(gather(store, statistics, np.arange(4)))
    logits.sum().backward()
    assert logits.shape == (4, num_species)
    assert fresh.head.weight.grad is not None


def test_every_parameter_gets_a_gradient(store: Store, statistics: Statistics) -> None:
    fresh = build_model(statistics, SMALL, seed=0).train()
    fresh(gather(store, statistics, np.arange(60))).square().sum().backward()
    assert [name for name, p in fresh.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("num_bands", [3, 4])
def test_the_direct_recipe_is_resnet18_pooled_and_one_layer(
    store: Store, statistics: Statistics, num_bands: int
) -> None:
    config = ModelConfig(modalities=("patch",), fusion="direct", patch_bands=num_bands)
    ours = build_model(statistics, config, seed=0).eval()
    theirs = timm.create_model("resnet18", in_chans=num_bands, num_classes=8).eval()
    weights = ours.encoders["patch"].network.state_dict()
    theirs.load_state_dict(weights | {"fc.weight": ours.head.weight, "fc.bias": ours.head.bias})
    num_theirs = sum(p.numel() for p in theirs.parameters())
    assert sum(p.numel() for p in ours.parameters()) == num_theirs
    rows = np.flatnonzero(store.arrays["patch"].row_of >= 0)[:5]
    batch = gather(store, statistics, rows)
    known = statistics.arrays["patch"]
    mean, std = (torch.tensor(x[:num_bands])[:, None, None] for x in (known.mean, known.std))
    with torch.inference_mode():
        expected = theirs((batch.values["patch"][:, :num_bands].float() - mean) / std)
        torch.testing.assert_close(ours(batch), expected, rtol=1e-4, atol=1e-5)


def test_the_direct_recipe_answers_the_prevalence_where_the_patch_is_missing(
    store: Store, statistics: Statistics
) -> None:
    config = SMALL.model_copy(update={"modalities": ("patch",), "fusion": "direct"})
    ours = build_model(statistics, config, seed=0).eval()
    without = np.flatnonzero(store.arrays["patch"].row_of < 0)[:2]
    with torch.inference_mode():
        assert torch.equal(ours(gather(store, statistics, without)), ours.head.bias.expand(2, -1))


def test_direct_fusion_of_several_modalities_and_modalities_never_measured_are_refused(
    statistics: Statistics,
) -> None:
    with pytest.raises(ConfigError, match=r"fusion = 'direct' with modalities .*one modality"):
        build_model(statistics, SMALL.model_copy(update={"fusion": "direct"}), seed=0)
    tables = statistics.model_copy(update={"arrays": {}})
    with pytest.raises(ConfigError, match=r"modalities = \['patch'\]"):
        build_model(tables, SMALL.model_copy(update={"modalities": ("patch",)}), seed=0)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.99])
def test_modality_dropout_hides_at_its_rate_but_never_the_last_nor_one_that_is_missing(rate: float) -> None:
    torch.manual_seed(0)
    present = torch.rand(4000, 4) < 0.6
    kept = drop_modalities(present, rate)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(dim=1), present.any(dim=1))
    many = present.sum(dim=1) == 4
    # With every one of four hidden (rate ** 4), all are left.
    expected = (1 - rate) + rate * rate**3
    assert kept[many].float().mean() == pytest.approx(expected, abs=0.05)


def test_weights_depend_on_the_seed_alone_and_the_global_state_is_left(statistics: Statistics) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build_model(statistics, SMALL, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again, other = (build_model(statistics, SMALL, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_bf16_autocast_gives_about_the_same_logits(store: Store, statistics: Statistics, model: SpeciesModel) -> None:
    batch = gather(store, statistics, np.arange(30))
    with torch.inference_mode():
        exact = model(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(batch).float()
    assert functional.cosine_similarity(exact, rough).min() > 0.999
