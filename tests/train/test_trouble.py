"""What goes wrong in a step is said with the rows, the modality and what to change."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from releve.errors import RunError
from releve.models.config import ModelConfig
from releve.models.tables import TableEncoder
from releve.prepare.config import SplitConfig
from releve.store.read import Store
from releve.train import step as step_module
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.loop import train_member
from releve.train.members import Member
from releve.train.rows import FoldRows, fold_rows
from releve.train.sampler import Step
from releve.train.start import start_training
from releve.train.step import Training, take_step
from releve.train.trouble import out_of_memory_explained
from stores import make_store

MODEL = ModelConfig(modalities=("covariates", "survey", "landsat"), embedding_dim=8, hidden_dim=16, series_width=4)
CONFIG = TrainConfig(epochs=3, batch_size=32, learning_rate=3e-3, device="cpu")
MEMBER, SPLIT = Member(0, 1, 7), SplitConfig(buffer_km=5)


@pytest.fixture(scope="module")
def store() -> Store:
    return make_store(150)


def start(store: Store) -> Training:
    none = np.zeros(0, np.int64)
    return start_training(store, FoldRows(np.arange(len(store)), none, none, none), 7, MODEL, CONFIG, RecordsConfig())


def step_of(rows: np.ndarray) -> Step:
    none = np.zeros(0, np.int64)
    return Step(rows, none, none)


def test_a_modality_that_breaks_a_step_is_named_with_the_first_rows_it_broke(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One survey's Landsat series is embedded as infinity from the second epoch on, in the midst of the steps."""
    series = store.arrays["landsat"]
    fitted = fold_rows(store, MEMBER.fold, SPLIT, selection_share=CONFIG.selection_share, seed=MEMBER.seed).plots
    broken = next(row for row in fitted.tolist() if series.row_of[row] >= 0)
    marked = series.values[series.row_of[broken]]
    taken: list[np.ndarray] = []
    take_step = step_module.take_step

    def watched(training: Training, parts: list, *rest: object) -> torch.Tensor:
        taken.append(parts[0].own.rows)
        encoder = training.model.encoders["landsat"]
        if len(taken) > 4 and "spoilt" not in vars(encoder):
            forward = encoder.forward
            encoder.spoilt = True

            def spoil(values: torch.Tensor, *date: torch.Tensor) -> torch.Tensor:
                hit = (values == torch.from_numpy(marked)).flatten(1).all(dim=1)
                return forward(values, *date).masked_fill(hit[:, None], torch.inf)

            encoder.forward = spoil
        return take_step(training, parts, *rest)

    monkeypatch.setattr(step_module, "take_step", watched)
    with pytest.raises(RunError, match="its landsat values .* alone give embeddings that are not finite") as caught:
        train_member(store, MEMBER, MODEL, CONFIG, SPLIT, tmp_path)
    guilty = next(rows for i, rows in enumerate(taken) if i >= 4 and broken in rows)
    assert f"landsat values (surveys [{store.surveys['survey_id'][broken]}]) alone" in str(caught.value)
    ids = store.surveys["survey_id"][guilty[:5].tolist()].to_list()
    assert f"by the batch with surveys {ids}" in str(caught.value)
    kept = load_file(tmp_path / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in kept.values())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried to"),
    ],
)
def test_memory_that_runs_out_names_the_batch_and_what_to_change(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    training = start(store)
    monkeypatch.setattr(TableEncoder, "forward", fail)
    found = r"memory ran out of cpu, in a batch of 40 rows \(covariates 0.0 MB.*landsat"
    with pytest.raises(RunError, match=found) as e, out_of_memory_explained(CONFIG, training):
        take_step(training, training.gather(step_of(np.arange(40))), 1e-3, 0)
    assert "Lower train.batch_size (now 32) or raise train.accumulate (now 1)" in str(e.value)


def test_another_error_is_left_as_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    training = start(store)
    monkeypatch.setattr(TableEncoder, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"), out_of_memory_explained(CONFIG, training):
        take_step(training, training.gather(step_of(np.arange(40))), 1e-3, 0)


def test_a_step_in_parts_has_the_loss_and_the_gradients_of_the_whole(store: Store) -> None:
    """Layer norms only, and no dropout: what is random or sees a part at a time would differ."""
    still = {"dropout": 0.0, "input_dropout": 0.0, "modality_dropout": 0.0}
    model = MODEL.model_copy(update=still | {"modalities": ("covariates", "survey")})
    none, rows = np.zeros(0, np.int64), np.arange(70)
    found = []
    for number in (1, 3):
        config = CONFIG.model_copy(update={"accumulate": number})
        whole = FoldRows(np.arange(len(store)), none, none, none)
        training = start_training(store, whole, 7, model, config, RecordsConfig())
        parts = training.gather(step_of(rows))
        assert len(parts) == number and sorted(np.concatenate([p.own.rows for p in parts])) == rows.tolist()
        losses = [training.objective(part, 1) for part in parts]
        for loss in losses:
            loss.backward()
        found.append((sum(losses), [p.grad for p in training.model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0])
    for mine, its in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)


def test_training_writes_nothing_into_the_store(tmp_path: Path) -> None:
    """A store may lie on a read-only disk: every file that is opened to be written lies elsewhere."""
    written: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        if recording and event == "open" and isinstance(arguments[0], str | bytes):
            mode, flags = arguments[1] or "", arguments[2] or 0
            if any(letter in str(mode) for letter in "wax+") or flags & 0o3:
                written.append(str(arguments[0]))

    recording = True
    sys.addaudithook(watch)
    train_member(make_store(150), MEMBER, MODEL, CONFIG.model_copy(update={"epochs": 1}), SPLIT, tmp_path / "run")
    recording = False
    paths = [path for path in written if path != "/dev/null"]
    assert paths and all(str(tmp_path / "run") in path or "/proc/" in path for path in paths)
