"""Which rows each regime learns from, and that what explains the recorders is left out of predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional

from releve.data.gather import Gatherer
from releve.errors import RunError
from releve.geo import nearest_km
from releve.lists import Lists
from releve.models.config import ModelConfig
from releve.prepare.config import SplitConfig
from releve.store.read import Store
from releve.train import rows as rows_module
from releve.train import step as step_module
from releve.train.checkpoint import load_member
from releve.train.config import Phase, RecordsConfig, TrainConfig, plan_phases
from releve.train.epochs import best_epoch
from releve.train.loop import train_member
from releve.train.members import Member
from releve.train.rows import FoldRows, fold_rows, weigh_silence
from releve.train.sampler import Sampler
from releve.train.start import start_training
from stores import make_mixed_store, make_store

MODEL = ModelConfig(modalities=("covariates", "location"), embedding_dim=8, hidden_dim=16, dropout=0.1)
CONFIG = TrainConfig(epochs=2, batch_size=16, learning_rate=3e-3, device="cpu", selection_share=0)
SPLIT = SplitConfig(buffer_km=1)
MEMBER = Member(0, 1, 7)


@pytest.fixture(scope="module")
def store() -> Store:
    return make_mixed_store()


def rows_of(*arguments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return plots and records to fit on, and held-out rows."""
    rows = fold_rows(*arguments)
    return rows.plots, rows.records, rows.held_out


def given(plots: np.ndarray, records: np.ndarray) -> FoldRows:
    return FoldRows(plots, records, plots[:0], plots[:0])


def watch(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes) -> list:
    """Return the steps that were taken."""
    records = changes.pop("records", RecordsConfig(pretrain_epochs=1))
    steps, take_step = [], step_module.take_step

    def watched(training, parts, *rest):
        steps.append(parts[0].whole)
        return take_step(training, parts, *rest)

    monkeypatch.setattr(step_module, "take_step", watched)
    train_member(store, MEMBER, MODEL, CONFIG.model_copy(update=changes), SPLIT, folder, records=records)
    return steps


def test_validation_rows_are_plots_and_no_training_row_shares_their_fold(store: Store) -> None:
    for regime in ("pa", "po", "presence", "classes"):
        plots, records, val = rows_of(store, 1, SPLIT, regime)
        assert store.is_plot[val].all() and (store.folds[val] == 1).all()
        assert store.is_plot[plots].all() and not store.is_plot[records].any()
        assert (store.folds[np.concatenate([plots, records])] != 1).all()
        assert (len(plots) > 0) == (regime != "po") and (len(records) > 0) == (regime != "pa")


@pytest.mark.parametrize("regime", ["pa", "po", "presence"])
def test_the_epoch_is_selected_on_blocks_that_are_neither_fitted_on_nor_scored(store: Store, regime: str) -> None:
    whole = fold_rows(store, 1, SPLIT, regime)
    rows = fold_rows(store, 1, SPLIT, regime, selection_share=0.2, seed=3)
    fitted = np.concatenate([rows.plots, rows.records])
    assert store.is_plot[rows.selection].all() and (store.folds[rows.selection] != 1).all()
    assert rows.held_out.tolist() == whole.held_out.tolist()
    assert not {*rows.selection} & ({*fitted} | {*rows.held_out})
    assert {*fitted} < {*whole.plots, *whole.records}
    lon, lat = store.lon, store.lat
    assert nearest_km(lon[fitted], lat[fitted], lon[rows.selection], lat[rows.selection]).min() >= 1
    num_plots = (store.is_plot & (store.folds != 1)).sum()
    assert 0.1 * num_plots < len(rows.selection) < 0.35 * num_plots
    other = fold_rows(store, 1, SPLIT, regime, selection_share=0.2, seed=4)
    assert other.selection.tolist() != rows.selection.tolist()


def test_without_a_fold_nothing_is_held_out(store: Store) -> None:
    rows = fold_rows(store, None, SPLIT, "presence", selection_share=0.2)
    assert len(rows.selection) == len(rows.held_out) == 0
    assert len(rows.plots) + len(rows.records) == len(store)


def test_without_plots_presence_only_rows_are_validated_on() -> None:
    mixed = make_mixed_store()
    surveys = mixed.surveys.with_columns(split=pl.lit("po"))
    plots, records, val = rows_of(replace(mixed, surveys=surveys), 0, SPLIT, "po")
    assert len(plots) == 0 and len(records) > 2 and len(val) > 2


def test_a_regime_without_its_rows_is_refused() -> None:
    with pytest.raises(RunError, match=r"0 presence-only rows.*regime 'presence'.*data.records"):
        fold_rows(make_store(60), 0, SPLIT, "presence")


def test_regimes_step_on_their_rows(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    steps = watch(store, tmp_path / "po", monkeypatch, regime="po", epochs=1)
    assert all(len(step.plots) == 0 and not store.is_plot[step.records].any() for step in steps)
    assert {*np.concatenate([step.records for step in steps])} <= {*records}
    steps = watch(store, tmp_path / "presence", monkeypatch, regime="presence", epochs=1)
    assert sorted(np.concatenate([step.plots for step in steps])) == plots.tolist()
    assert sum(len(step.records) for step in steps) == 6 * len(plots)  # rows_per_plot
    steps = watch(store, tmp_path / "classes", monkeypatch, regime="classes", epochs=1)
    kinds = ["plots" if len(step.plots) else "records" for step in steps]
    assert kinds == sorted(kinds, reverse=True) and set(kinds) == {"plots", "records"}


def test_only_the_last_phase_is_kept_and_logged_epochs_say_all(store: Store, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"regime": "classes", "epochs": 2})
    logs = train_member(store, MEMBER, MODEL, config, SPLIT, tmp_path, records=RecordsConfig(pretrain_epochs=3))
    assert [log.epoch for log in logs] == [0, 1, 2, 3, 4]
    assert best_epoch(logs, 3) >= 3
    rates = [log.learning_rate for log in logs]
    assert rates[3] > rates[2]  # each phase has a schedule of its own
    assert plan_phases("presence", 4, 3) == [Phase(4, plots=True, records=True)]


@pytest.mark.parametrize("regime", ["po", "presence", "classes"])
def test_a_killed_run_goes_on_with_the_same_losses(store: Store, tmp_path: Path, regime: str) -> None:
    config = CONFIG.model_copy(update={"regime": regime})
    records = RecordsConfig(pretrain_epochs=2, background="mixed")
    whole = train_member(store, MEMBER, MODEL, config, SPLIT, tmp_path / "whole", records=records)

    def stop(epochs: int) -> None:
        done.append(epochs)
        if len(done) == 2:  # at the start, after the first epoch
            raise KeyboardInterrupt

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train_member(store, MEMBER, MODEL, config, SPLIT, tmp_path / "cut", records=records, advance=stop)
    assert len((tmp_path / "cut/metrics.jsonl").read_text().splitlines()) == 1 < len(whole)
    again = train_member(store, MEMBER, MODEL, config, SPLIT, tmp_path / "cut", records=records, resume=True)
    assert [log.train_loss for log in again] == [log.train_loss for log in whole]
    assert (tmp_path / "cut/weights.safetensors").read_bytes() == (tmp_path / "whole/weights.safetensors").read_bytes()


def test_plots_and_records_weigh_as_told(store: Store) -> None:
    """The step's loss is the plots' loss plus ``weight`` times the records' loss, each a mean over its own rows."""
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    settings = RecordsConfig(weight=0.3, background="mixed")
    config = CONFIG.model_copy(update={"regime": "presence"})
    training = start_training(store, given(plots, records), 7, MODEL, config, settings)
    step = next(Sampler(store, given(plots, records), settings, 16).steps(np.random.default_rng(0)))
    assert len(step.background) == len(step.records) > 0
    (part,) = training.gather(step)
    model = training.model.eval()
    logits = model(part.batch)
    total = training.objective(part, 1)
    first, last = len(step.plots), len(step.plots) + len(step.records)
    dense = torch.from_numpy(store.labels.take(step.rows).to_csr(8).toarray()).float()
    terms = functional.binary_cross_entropy_with_logits(logits, dense, reduction="none")
    alone = terms[:first].sum() / first
    present = (terms * dense)[first:last].sum()
    trust = torch.from_numpy(weigh_silence(store, plots, records, "richness")[step.records])
    silent = (trust[:, None] * (terms * (1 - dense))[first:last]).sum()
    elsewhere = functional.softplus(logits[last:]).sum()
    theirs = (present + 0.5 * silent + 0.5 * elsewhere) / len(step.records)
    assert total.item() == pytest.approx((alone + 0.3 * theirs).item(), rel=1e-5)


def test_the_observation_head_is_trained_and_left_out_of_predictions(store: Store, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"regime": "presence"})
    train_member(store, MEMBER, MODEL, config, SPLIT, tmp_path, records=RecordsConfig())
    model = load_member(tmp_path, MODEL, torch.device("cpu"))
    assert model.observation is not None and model.observation.head.weight.abs().max() > 0
    rows = np.arange(len(store))
    names = model.modalities
    assert "observation" not in names
    seen = Gatherer(store, (*names, "observation"), model.statistics.categories)
    alone = Gatherer(store, names, model.statistics.categories)
    with torch.inference_mode():
        with_head, without = model(seen.batch(rows)), model(alone.batch(rows))
    same = torch.isclose(with_head, without, atol=1e-5).all(dim=1).numpy()
    assert same[store.is_plot].all() and not same[~store.is_plot].any()


def test_what_only_plots_have_does_not_reach_the_shared_response(store: Store) -> None:
    """A plot's facts are added by a head of its own, and presence-only rows have no part in it."""
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    config = CONFIG.model_copy(update={"regime": "presence"})
    model_config = MODEL.model_copy(update={"modalities": ("covariates", "survey", "location")})
    training = start_training(store, given(plots, records), 7, model_config, config, RecordsConfig())
    model = training.model.eval()
    assert model.plot_head is not None and set(model.encoders) == {"covariates", "location"}
    assert "survey" in model.modalities  # so that a place to predict brings its plot area along
    torch.nn.init.ones_(model.plot_head.head.bias)
    rows = np.concatenate([plots[:5], records[:5]])
    batch = training.gatherer.batch(rows)
    with torch.inference_mode():
        changed = model(batch)
        torch.nn.init.zeros_(model.plot_head.head.bias)
        plain = model(batch)
    np.testing.assert_allclose((changed - plain)[:5], 1.0, atol=1e-5)
    np.testing.assert_allclose((changed - plain)[5:], 0.0)
    alone = Gatherer(store, model.modalities, model.statistics.categories).batch(plots[:5])
    with torch.inference_mode():
        np.testing.assert_allclose(model(alone), plain[:5], atol=1e-5)


def test_a_model_for_plots_alone_has_no_heads_of_sources(store: Store) -> None:
    plots, none, _ = rows_of(store, MEMBER.fold, SPLIT, "pa")
    model_config = MODEL.model_copy(update={"modalities": ("covariates", "survey")})
    training = start_training(store, given(plots, none), 7, model_config, CONFIG, RecordsConfig())
    assert training.model.observation is None and training.model.plot_head is None
    assert set(training.model.encoders) == {"covariates", "survey"}


def test_trust_by_richness_balances_presences_and_silence(store: Store) -> None:
    plots, records, _ = rows_of(store, 1, SPLIT, "presence")
    richness = store.labels.lengths()
    expected = richness[plots].mean()
    trust = weigh_silence(store, plots, records, "richness")
    assert (trust[store.is_plot] == 1).all()
    below = records[richness[records] < expected]
    np.testing.assert_allclose(trust[below] * expected, richness[below], rtol=1e-6)
    assert trust.max() == 1
    np.testing.assert_array_equal(weigh_silence(store, plots, records, "coverage"), store.trust)
    none = plots[:0]
    top = np.quantile(richness[records], 0.95)
    alone = weigh_silence(store, none, records, "richness")[records]
    np.testing.assert_allclose(alone, np.minimum(1, richness[records] / top), rtol=1e-6)


def test_an_untrained_model_predicts_the_plots_prevalence_and_explains_the_records(store: Store) -> None:
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    config = CONFIG.model_copy(update={"regime": "presence"})
    training = start_training(store, given(plots, records), 7, MODEL, config, RecordsConfig())
    model = training.model
    shares = []
    for rows in (plots, records):
        counts = np.bincount(store.labels.take(rows).indices, minlength=8)
        shares.append((counts + 0.5) / (len(rows) + 1))
    assert model.observation is not None
    np.testing.assert_allclose(torch.sigmoid(model.head.bias).detach(), shares[0], rtol=1e-4)
    total = model.head.bias + model.observation.head.bias
    np.testing.assert_allclose(torch.sigmoid(total).detach(), shares[1], rtol=1e-4)
    assert training.model.statistics.num_rows == len(plots)


def test_a_plot_is_trusted_wholly_and_a_record_as_far_as_the_store_says(store: Store) -> None:
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    config = CONFIG.model_copy(update={"regime": "presence"})
    expected = store.surveys["trust"].fill_null(1.0).to_numpy().astype(np.float32)
    assert (expected[~store.is_plot] < 0.9).all()
    for loss, background, share in (
        ("trusted_bce", "target_group", 1),
        ("trusted_bce", "mixed", 0.5),
        ("bce", "mixed", 0),
    ):
        settings = RecordsConfig(trust="coverage", loss=loss, background=background)
        silence = start_training(store, given(plots, records), 7, MODEL, config, settings).silence
        assert (silence[store.is_plot] == 1).all()
        theirs = share * expected if share else np.full(len(store), 0.5)
        np.testing.assert_allclose(silence[~store.is_plot], theirs[~store.is_plot], rtol=1e-6)


def test_thinning_draws_crowded_cells_less_and_the_random_background_evenly() -> None:
    mixed = make_mixed_store(20, 400)
    lon = np.where(np.arange(len(mixed)) < 400, 10.0, 14.0)  # 380 rows in one place, 20 in another
    surveys = mixed.surveys.with_columns(lon=lon, lat=pl.lit(50.0))
    crowded = replace(mixed, surveys=surveys)
    records = np.flatnonzero(~crowded.is_plot)
    here = crowded.lon[records] == 10.0
    assert here.sum() == 380
    for thinning, share in ((0.0, 0.95), (1.0, 0.5)):
        sampler = Sampler(
            crowded, given(records[:0], records), RecordsConfig(thinning=thinning, background="random"), 50
        )
        steps = list(sampler.steps(np.random.default_rng(0)))
        drawn = np.concatenate([step.records for step in steps])
        assert len(drawn) == len(records)
        assert (crowded.lon[drawn] == 10.0).mean() == pytest.approx(share, abs=0.01)
        background = np.concatenate([step.background for step in steps])
        assert (crowded.lon[background] == 10.0).mean() == pytest.approx(0.5, abs=0.03)


def test_unthinned_records_are_each_seen_once_an_epoch(store: Store) -> None:
    _, records, _ = rows_of(store, 1, SPLIT, "po")
    sampler = Sampler(store, given(records[:0], records), RecordsConfig(thinning=0.0), 16)
    drawn = np.concatenate([s.records for s in sampler.steps(np.random.default_rng(3))])
    assert sorted(drawn) == records.tolist()


def test_species_only_in_records_or_only_in_plots_are_learned(store: Store, tmp_path: Path) -> None:
    rows = []
    for i in range(len(store)):
        kept = [s for s in store.labels.row(i) if s not in (6, 7)]
        rows.append([*kept, 7] if store.is_plot[i] and i % 4 == 0 else [*kept, 6] if not store.is_plot[i] else kept)
    split = replace(store, labels=Lists.from_rows(rows))
    config = CONFIG.model_copy(update={"regime": "presence", "epochs": 3})
    logs = train_member(split, MEMBER, MODEL, config, SPLIT, tmp_path, records=RecordsConfig())
    assert np.isfinite([log.train_loss for log in logs]).all()
    model = load_member(tmp_path, MODEL, torch.device("cpu"))
    assert model.statistics.num_positives[6] == 0 and model.statistics.record_positives[7] == 0


def test_no_epoch_draws_the_random_numbers_that_dealt_out_the_selection_blocks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``default_rng([seed, epoch])`` is an epoch's; the blocks must not be drawn from any of these streams."""
    drawn, select = [], rows_module.selection_rows

    def watched(*arguments, rng, **options):
        drawn.append(str(rng.bit_generator.state))
        return select(*arguments, rng=rng, **options)

    monkeypatch.setattr(rows_module, "selection_rows", watched)
    fold_rows(store, 1, SPLIT, selection_share=0.2, seed=7)
    of_epochs = {str(np.random.default_rng([7, epoch]).bit_generator.state) for epoch in range(100)}
    assert len(drawn) == 1 and drawn[0] not in of_epochs


def test_few_records_a_plot_are_no_reason_to_refuse_a_training(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has at least two presence-only rows, however few are asked for, or all processes' steps would be empty."""
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    settings = RecordsConfig(rows_per_plot=0.001)
    sampler = Sampler(store, given(plots, records), settings, 16)
    sizes = [len(step.records) for step in sampler.steps(np.random.default_rng(0))]
    assert sampler.smallest_step == min(sizes) == 2
    assert len(watch(store, tmp_path, monkeypatch, regime="presence", epochs=1, records=settings)) > 1


@pytest.mark.parametrize("regime", ["pa", "po", "presence"])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 6.0])
def test_the_smallest_step_is_that_of_the_steps_dealt_out(store: Store, regime: str, ratio: float) -> None:
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, regime)
    sampler = Sampler(store, given(plots, records), RecordsConfig(rows_per_plot=ratio), 23)
    steps = list(sampler.steps(np.random.default_rng(0)))
    kinds = [[len(step.plots) for step in steps], [len(step.records) for step in steps]]
    assert len(steps) == sampler.num_steps
    assert sampler.smallest_step == min(min(sizes) for sizes in kinds if max(sizes))


def test_the_average_counts_the_steps_of_all_phases(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its warm-up goes on where the first phase left it; the counts are 0, 1, 2, ... over all epochs."""
    counts, take_step = [], step_module.take_step

    def watched(training, parts, rate, num_taken):
        counts.append(num_taken)
        return take_step(training, parts, rate, num_taken)

    monkeypatch.setattr(step_module, "take_step", watched)
    config = CONFIG.model_copy(update={"regime": "classes"})
    train_member(store, MEMBER, MODEL, config, SPLIT, tmp_path, records=RecordsConfig(pretrain_epochs=2))
    assert counts == list(range(len(counts)))


def test_the_learning_rate_follows_one_schedule_a_phase_and_the_average_warms_up(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rise over a tenth of the phase's steps, a cosine over the others; the average's decay is (1 + n) / (10 + n)."""
    rates, decays, take_step = [], [], step_module.take_step
    update_average = step_module.update_average

    def watched(training, parts, rate, num_taken):
        rates.append(rate)
        return take_step(training, parts, rate, num_taken)

    def averaged(average, model, decay):
        decays.append(decay)
        update_average(average, model, decay)

    monkeypatch.setattr(step_module, "take_step", watched)
    monkeypatch.setattr(step_module, "update_average", averaged)
    config = CONFIG.model_copy(update={"regime": "classes", "epochs": 3, "ema_decay": 0.6, "patience": 9})
    train_member(store, MEMBER, MODEL, config, SPLIT, tmp_path, records=RecordsConfig(pretrain_epochs=2))
    rows = fold_rows(store, MEMBER.fold, SPLIT, "classes")
    expected = []
    for number in (2 * -(-len(rows.records) // 16), 3 * -(-len(rows.plots) // 16)):
        warm = 0.1 * number
        for i in range(number):
            down = 0.5 * (1 + np.cos(np.pi * (i - warm) / (number - warm)))
            expected.append(3e-3 * (min(1.0, (i + 1) / warm) if i < warm else down))
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    np.testing.assert_allclose(decays[:4], [1 / 10, 2 / 11, 3 / 12, 4 / 13])
    assert max(decays) == decays[-1] == 0.6 and decays[12] == 13 / 22  # .591; from the fourteenth step on .6


def test_presence_only_rows_alone_weigh_1_and_beside_plots_as_told(store: Store) -> None:
    """``records.weight`` is against the plots; in a step without any, the loss is the mean over its rows."""
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    for regime, known, weight in (("po", plots[:0], 1.0), ("presence", plots, 5.0), ("classes", plots[:0], 1.0)):
        config = CONFIG.model_copy(update={"regime": regime})
        rows = given(known, records)
        training = start_training(store, rows, 7, MODEL, config, RecordsConfig(weight=5.0, loss="bce"))
        step = next(Sampler(store, rows, training.records, 16).steps(np.random.default_rng(0)))
        (part,) = training.gather(step)
        logits = training.model.eval()(part.batch)
        dense = torch.from_numpy(store.labels.take(step.rows).to_csr(8).toarray()).float()
        terms = functional.binary_cross_entropy_with_logits(logits, dense, reduction="none").sum(dim=1)
        number = len(step.plots)
        expected = weight * terms[number:].mean() + (terms[:number].mean() if number else 0.0)
        assert training.objective(part, 1).item() == pytest.approx(expected.item(), rel=1e-5), regime


def test_class_weights_have_a_mean_of_1_and_are_those_of_the_plots(store: Store) -> None:
    """Rarer species weigh more, by the root of their share; presences of records and all silence are as before."""
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    config = CONFIG.model_copy(update={"regime": "presence", "class_weight": 0.5})
    rows = given(plots, records)
    training = start_training(store, rows, 7, MODEL, config, RecordsConfig(loss="bce", weight=2.0))
    share = (np.bincount(store.labels.take(plots).indices, minlength=8) + 0.5) / (len(plots) + 1)
    weight_S = training.class_weight_S
    assert weight_S is not None and weight_S.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weight_S * np.sqrt(share), (weight_S * np.sqrt(share))[0].repeat(8), rtol=1e-5)
    step = next(Sampler(store, rows, training.records, 16).steps(np.random.default_rng(0)))
    (part,) = training.gather(step)
    logits = training.model.eval()(part.batch)
    dense = torch.from_numpy(store.labels.take(step.rows).to_csr(8).toarray()).float()
    terms = functional.binary_cross_entropy_with_logits(logits, dense, reduction="none")
    ours, theirs = terms[: len(step.plots)], terms[len(step.plots) :]
    weighted = torch.where(dense[: len(step.plots)] == 1, ours * torch.from_numpy(weight_S), ours)
    expected = weighted.sum() / len(ours) + 2 * theirs.sum() / len(theirs)
    assert training.objective(part, 1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_published_loss_of_records_knows_their_own_frequencies(store: Store) -> None:
    plots, records, _ = rows_of(store, MEMBER.fold, SPLIT, "presence")
    config = CONFIG.model_copy(update={"regime": "presence", "loss": "full_weighted"})
    training = start_training(store, given(plots, records), 7, MODEL, config, RecordsConfig(loss="full_weighted"))
    found = training.objective.published
    for rows, frequency_S in ((plots, found.frequency_S), (records, found.record_frequency_S)):
        counts = np.bincount(store.labels.take(rows).indices, minlength=8)
        np.testing.assert_allclose(frequency_S, (counts + 0.5) / (len(rows) + 1), rtol=1e-5)
    assert not torch.allclose(found.frequency_S, found.record_frequency_S)
