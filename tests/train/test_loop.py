"""The training loop: it learns, repeats itself, resumes exactly, stops in time and keeps the best."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from releve.config import make_config
from releve.data.gather import Gatherer
from releve.errors import RunError
from releve.models.config import ModelConfig
from releve.prepare.config import SplitConfig
from releve.store.read import Store
from releve.train import loop
from releve.train import step as step_module
from releve.train.checkpoint import load_member
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.device import choose_device
from releve.train.epochs import EpochLog
from releve.train.loop import train_member
from releve.train.members import Member, plan_members
from releve.train.rows import FoldRows, fold_rows
from releve.train.sampler import Step
from releve.train.start import start_training
from releve.train.step import Training, learning_rate_at, take_step, update_average
from releve.train.validate import predict_logits
from stores import make_store

MODEL = ModelConfig(
    modalities=("covariates", "survey", "location", "landsat", "patch"),
    embedding_dim=8,
    hidden_dim=16,
    series_width=4,
    patch_backbone="test_resnet",
    dropout=0.1,
)
TABLES = MODEL.model_copy(update={"modalities": ("covariates", "survey", "location")})
CONFIG = TrainConfig(epochs=4, batch_size=32, learning_rate=3e-3, device="cpu")
MEMBER = Member(0, 1, 7)
SPLIT, FAR = SplitConfig(buffer_km=5), SplitConfig(buffer_km=30)


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(150)


def fit(
    store: Store, folder: Path, *, model: ModelConfig = MODEL, member: Member = MEMBER, **changes
) -> list[EpochLog]:
    resume = changes.pop("resume", False)
    config = CONFIG.model_copy(update=changes)
    return train_member(store, member, model, config, SPLIT, folder, resume=resume)


def rows_of(store: Store, split: SplitConfig) -> FoldRows:
    return fold_rows(store, MEMBER.fold, split, selection_share=CONFIG.selection_share, seed=MEMBER.seed)


def test_held_out_labels_do_not_choose_the_epoch(store: Store, tmp_path: Path) -> None:
    held_out = {*rows_of(store, SPLIT).held_out.tolist()}
    sets = [[0, 7] if i in held_out else store.labels.row(i) for i in range(len(store))]
    altered = replace(store, labels=type(store.labels).from_rows(sets))
    logs = [fit(kind, tmp_path / name, model=TABLES) for kind, name in ((store, "a"), (altered, "b"))]
    assert facts(logs[0]) == facts(logs[1])
    assert (tmp_path / "a/member.json").read_bytes() == (tmp_path / "b/member.json").read_bytes()


def test_without_selection_rows_the_last_weights_are_kept(store: Store, tmp_path: Path) -> None:
    logs = fit(store, tmp_path, model=TABLES, selection_share=0.0, epochs=3, patience=1)
    assert [log.selection_sf1 for log in logs] == [None] * 3
    assert json.loads((tmp_path / "member.json").read_text())["best_epoch"] == 2


def test_a_member_that_holds_out_nothing_trains_on_all_rows_for_as_many_epochs_as_told(
    store: Store, tmp_path: Path
) -> None:
    member = replace(MEMBER, fold=None)
    logs = train_member(store, member, TABLES, CONFIG, SPLIT, tmp_path / "short", stop_after=2)
    whole = train_member(store, member, TABLES, CONFIG, SPLIT, tmp_path / "whole")
    assert len(logs) == 2 and len(whole) == CONFIG.epochs
    assert [log.train_loss for log in logs] == [log.train_loss for log in whole[:2]]  # the same schedule, cut short
    assert json.loads((tmp_path / "short/statistics.json").read_text())["num_rows"] == len(store)


def facts(logs: list[EpochLog]) -> list[dict[str, float]]:
    return [asdict(replace(log, seconds=0)) for log in logs]


def test_the_loss_falls_and_a_planted_signal_is_learned(tmp_path: Path) -> None:
    store = make_store(400, missing=0.0)
    logs = fit(store, tmp_path, model=TABLES, epochs=25, patience=25)
    member = json.loads((tmp_path / "member.json").read_text())
    assert logs[-1].train_loss < 0.8 * logs[0].train_loss
    val = rows_of(store, SPLIT).held_out
    model = load_member(tmp_path, TABLES, torch.device("cpu"))
    gatherer = Gatherer(store, model.modalities, model.statistics.categories)
    logits = torch.cat(list(predict_logits(model, gatherer, val, torch.device("cpu"))))
    warmth = store.arrays["covariates"].values[store.arrays["covariates"].row_of[val], 0]
    known = np.isfinite(warmth)
    for species in range(8):
        correlation = np.corrcoef(logits[known, species].numpy(), warmth[known])[0, 1]
        assert correlation * (-1) ** species > 0.8
    assert member["selection_sf1"] == logs[member["best_epoch"]].selection_sf1


def test_the_same_seed_gives_the_same_losses_and_weights_and_another_gives_others(store: Store, tmp_path: Path) -> None:
    first = fit(store, tmp_path / "a", epochs=2)
    torch.rand(5)  # what the caller does with torch's own state is of no account
    again = fit(store, tmp_path / "b", epochs=2)
    other = fit(store, tmp_path / "c", epochs=2, member=replace(MEMBER, seed=8))
    assert facts(first) == facts(again)
    assert (tmp_path / "a/weights.safetensors").read_bytes() == (tmp_path / "b/weights.safetensors").read_bytes()
    assert facts(first)[0]["train_loss"] != facts(other)[0]["train_loss"]


def test_torchs_and_numpys_random_state_are_left_alone(store: Store, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before, numpys = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    fit(store, tmp_path, epochs=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert str(np.random.get_state()) == numpys  # noqa: NPY002


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_training_equals_an_unbroken_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    unbroken = fit(store, tmp_path / "unbroken")
    validate, calls = loop.validate, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) > stop_after:
            raise KeyboardInterrupt
        return validate(*arguments)

    monkeypatch.setattr(loop, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(store, tmp_path / "broken")
    assert len((tmp_path / "broken/metrics.jsonl").read_text().splitlines()) == stop_after
    monkeypatch.setattr(loop, "validate", validate)
    resumed = fit(store, tmp_path / "broken", resume=True)
    assert facts(resumed) == facts(unbroken)
    for name in ("weights.safetensors", "statistics.json", "member.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


def test_resuming_a_member_that_is_done_or_has_not_begun(store: Store, tmp_path: Path) -> None:
    done = []
    logs = fit(store, tmp_path, model=TABLES, epochs=2, resume=True)
    written = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    config = CONFIG.model_copy(update={"epochs": 2})
    again = train_member(store, MEMBER, TABLES, config, SPLIT, tmp_path, resume=True, advance=done.append)
    assert again == logs
    assert done == [2]
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == written
    assert not (tmp_path / "state.pt").exists()


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[dict[str, torch.Tensor]]:
    """Let validation answer these scores, and return the averaged weights it was shown."""
    validate, seen = loop.validate, []

    def answer(training, rows):
        seen.append({name: tensor.clone() for name, tensor in training.average.state_dict().items()})
        return replace(validate(training, rows), sf1=scores[len(seen) - 1])

    monkeypatch.setattr(loop, "validate", answer)
    return seen


def test_training_stops_when_patience_is_out_and_keeps_the_first_best_weights(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scripted(monkeypatch, [0.1, 0.3, 0.1, 0.2, 0.9])
    advanced: list[int] = []
    config = CONFIG.model_copy(update={"epochs": 9, "patience": 2})
    logs = train_member(store, MEMBER, TABLES, config, SPLIT, tmp_path, advance=advanced.append)
    assert [log.selection_sf1 for log in logs] == [0.1, 0.3, 0.1, 0.2]  # smoothed: 0.1, 0.2, 0.15, 0.175
    member = json.loads((tmp_path / "member.json").read_text())
    assert (member["best_epoch"], member["selection_sf1"], member["num_epochs"]) == (1, 0.3, 4)
    kept = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(kept[name], seen[1][name]) for name in kept)
    assert sum(advanced) == 9


@pytest.mark.parametrize(
    ("scores", "patience", "stalled"),
    [([], 1, False), ([0.1], 1, False), ([0.2, 0.1], 1, True), ([0.2, 0.1], 2, False), ([0.2, 0.2, 0.2], 2, True)],
)
def test_stalling(scores: list[float], patience: int, stalled: bool) -> None:
    logs = [EpochLog(i, 0, 0, score, 0, 0) for i, score in enumerate(scores)]
    assert loop.has_stalled(logs, patience) == stalled


def test_a_loss_that_is_not_a_number_names_surveys_and_keeps_the_last_good_weights(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = step_module.cross_entropy, []

    def breaking(chunk, silence_N):
        calls.append(1)
        return plain(chunk, silence_N) * (float("nan") if len(calls) > 4 else 1.0)

    monkeypatch.setattr(step_module, "cross_entropy", breaking)
    with pytest.raises(RunError, match=r"loss of epoch 1 is nan by the batch with surveys \[\d+, .*learning_rate"):
        fit(store, tmp_path, model=TABLES)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "weights.safetensors").values())
    assert not (tmp_path / "member.json").exists()
    with pytest.raises(RunError, match="not trained to its end"):
        load_member(tmp_path, TABLES, torch.device("cpu"))
    monkeypatch.setattr(step_module, "cross_entropy", plain)
    assert len(fit(store, tmp_path, model=TABLES, resume=True)) == 4


def start(store: Store, model: ModelConfig, config: TrainConfig) -> Training:
    none = np.zeros(0, np.int64)
    return start_training(store, FoldRows(np.arange(150), none, none, none), 7, model, config, RecordsConfig())


def plots(rows: np.ndarray) -> Step:
    none = np.zeros(0, np.int64)
    return Step(rows, none, none)


def test_only_training_rows_are_stepped_on_and_all_of_them_once_an_epoch(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped: list[np.ndarray] = []
    take_step = step_module.take_step

    def watched(training, parts, *rest):
        stepped.append(np.concatenate([part.own.rows for part in parts]))
        return take_step(training, parts, *rest)

    monkeypatch.setattr(step_module, "take_step", watched)
    train_member(store, MEMBER, TABLES, CONFIG.model_copy(update={"epochs": 2}), FAR, tmp_path)
    rows = rows_of(store, FAR)
    buffer = len(store) - len(rows.plots) - len(rows.selection) - len(rows.held_out)
    assert min(len(rows.plots), len(rows.held_out), len(rows.selection), buffer) > 3
    half = len(stepped) // 2
    for epoch in (stepped[:half], stepped[half:]):
        assert sorted(np.concatenate(epoch).tolist()) == rows.plots.tolist()
        assert max(map(len, epoch)) <= 32
    assert np.concatenate(stepped[:half]).tolist() != np.concatenate(stepped[half:]).tolist()


def test_only_labels_that_are_fitted_on_reach_the_weights(store: Store, tmp_path: Path) -> None:
    fitted = {*rows_of(store, FAR).plots.tolist()}
    rows = [store.labels.row(i) if i in fitted else [0, 7] for i in range(len(store))]
    altered = replace(store, labels=type(store.labels).from_rows(rows))
    config = CONFIG.model_copy(update={"epochs": 1})
    logs = [
        train_member(kind, MEMBER, TABLES, config, FAR, tmp_path / name)
        for kind, name in ((store, "a"), (altered, "b"))
    ]
    assert logs[0][0].train_loss == logs[1][0].train_loss
    assert logs[0][0].selection_loss != logs[1][0].selection_loss
    for name in ("weights.safetensors", "statistics.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_folds_that_the_store_lacks_are_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="fold 3 has 135 plots .* 0 rows to validate on"):
        fit(store, tmp_path, member=Member(0, 3, 1))
    with pytest.raises(RunError, match=r"num_folds is 4.*at most the 3 folds"):
        plan_members(make_config({"train": {"num_folds": 4}}, origin="test"), store, seed=0)


@pytest.mark.parametrize("name", ["gpu", "cuda:9", "cuda:x", ""])
def test_devices_that_are_not_there_are_refused(name: str) -> None:
    with pytest.raises(RunError, match="train.device is .*one of"):
        choose_device(name)


def test_an_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"loss\n.*'bce', 'full_weighted' or 'asymmetric'"):
        TrainConfig(loss="hinge")


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [learning_rate_at(step, 100, highest=2.0, warmup=0.1) for step in range(100)]
    np.testing.assert_allclose(rates[:10], 0.2 * np.arange(1, 11))
    assert max(rates) == 2.0
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[55] == pytest.approx(1.0)  # half-way down
    assert rates[99] < 0.001
    assert learning_rate_at(0, 1, highest=2.0, warmup=0.0) == 2.0


def test_the_average_moves_by_the_decay_with_batch_norm_statistics_and_counters_are_copied() -> None:
    average, model = (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)) for _ in range(2))
    for network, value in ((average, 1.0), (model, 3.0)):
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    update_average(average, model, 0.75)
    state = average.state_dict()
    assert state.pop("1.num_batches_tracked") == 3
    assert {tensor.unique().item() for tensor in state.values()} == {1.5}  # 0.75 x 1 + 0.25 x 3
    update_average(average, model, 0.0)
    assert {tensor.unique().item() for tensor in average.state_dict().values()} == {3.0}


def test_without_an_average_the_last_weights_are_kept(store: Store) -> None:
    config = CONFIG.model_copy(update={"ema_decay": 0.0})
    training = start(store, TABLES, config)
    take_step(training, training.gather(plots(np.arange(64))), 1e-3, 0)
    for mine, its in zip(training.average.state_dict().values(), training.model.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


def test_weight_decay_is_for_matrices_and_the_gradient_is_clipped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"gradient_clip": 1e-3})
    training = start(store, MODEL, config)
    decayed, others = training.optimizer.param_groups
    assert decayed["weight_decay"] == config.weight_decay
    assert others["weight_decay"] == 0
    assert {p.ndim for p in others["params"]} == {1}
    num_trained = sum(p.requires_grad for p in training.model.parameters())
    assert len(decayed["params"]) + len(others["params"]) == num_trained
    norms = []

    def watched(*_):
        norms.append(torch.stack([p.grad.norm() for p in training.model.parameters() if p.grad is not None]).norm())

    training.optimizer.register_step_pre_hook(watched)
    training.model.train()
    take_step(training, training.gather(plots(np.arange(64))), 1e-3, 0)
    assert norms[0].item() == pytest.approx(1e-3, rel=1e-3)


def test_bf16_trains_about_as_fp32_does(store: Store, tmp_path: Path) -> None:
    exact = fit(store, tmp_path / "a", epochs=2, precision="fp32")
    rough = fit(store, tmp_path / "b", epochs=2, precision="bf16")
    assert rough[1].train_loss == pytest.approx(exact[1].train_loss, rel=0.02)
    assert rough[1].train_loss != exact[1].train_loss


@pytest.mark.parametrize("batch_size", [2, 49, 99, 4096])
def test_any_batch_size_trains(store: Store, tmp_path: Path, batch_size: int) -> None:
    few = MODEL.model_copy(update={"modalities": ("covariates", "patch")})
    assert np.isfinite(fit(store, tmp_path, model=few, epochs=1, batch_size=batch_size)[0].train_loss)


def dense_loss(store: Store, rows: np.ndarray, logits: torch.Tensor) -> float:
    """Return torch's cross-entropy with a table of 0 and 1, summed over species."""
    dense = torch.from_numpy(store.labels.take(rows).to_csr(8).toarray()).float()
    return (functional.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / len(rows)).item()


def test_validation_is_that_of_all_rows_at_once(store: Store) -> None:
    training = start(store, TABLES, CONFIG)
    rows = np.arange(150)
    selected = loop.validate(training, rows)
    logits = torch.cat(list(predict_logits(training.average, training.gatherer, rows, training.device, 7)))
    assert selected.loss == pytest.approx(dense_loss(store, rows, logits), rel=1e-5)
    assert 0 < selected.sf1 < 1


def test_a_loaded_member_predicts_as_it_was_validated(store: Store, tmp_path: Path) -> None:
    logs = fit(store, tmp_path, epochs=1)
    model = load_member(tmp_path, MODEL, torch.device("cpu"))
    val = rows_of(store, SPLIT).selection
    gatherer = Gatherer(store, model.modalities, model.statistics.categories)
    logits = torch.cat(list(predict_logits(model, gatherer, val, torch.device("cpu"))))
    assert dense_loss(store, val, logits) == pytest.approx(logs[0].selection_loss, rel=1e-5)
