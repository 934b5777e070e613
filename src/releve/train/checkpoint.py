"""What training leaves on disk: weights with their statistics, the state that resuming needs, the log."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from releve.data.statistics import Statistics
from releve.errors import RunError
from releve.files import atomic_path, json_text, write_json, write_text
from releve.models.config import ModelConfig
from releve.models.kinds import TABLE_KINDS, MemberModel
from releve.models.model import build_model
from releve.train.epochs import EpochLog
from releve.train.step import Training


def save_weights(folder: Path, model: MemberModel) -> None:
    """Write the weights and the statistics that go with them."""
    with atomic_path(folder / "weights.safetensors") as partial:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial)
    write_text(folder / "statistics.json", model.statistics.model_dump_json())


def save_state(folder: Path, training: Training) -> None:
    """Write what a resumed training needs, and the log."""
    write_text(folder / "metrics.jsonl", "".join(json_text(asdict(log), indent=None) + "\n" for log in training.logs))
    state = {
        "model": training.model.state_dict(),
        "average": training.average.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "logs": [asdict(log) for log in training.logs],
        "best": training.best,
    }
    with atomic_path(folder / "state.pt") as partial:
        torch.save(state, partial)


def restore_state(folder: Path, training: Training) -> None:
    """Put a training back to where its last whole epoch left it; without a state it stays at the start."""
    file = folder / "state.pt"
    if not file.is_file():
        return
    state = torch.load(file, map_location=training.device, weights_only=True)
    training.model.load_state_dict(state["model"])
    training.average.load_state_dict(state["average"])
    training.optimizer.load_state_dict(state["optimizer"])
    training.logs[:] = [EpochLog(**log) for log in state["logs"]]
    training.best = state["best"]


def save_finished(folder: Path, summary: dict[str, Any], logs: list[EpochLog]) -> None:
    """Write ``member.json``, the sign that a member is done, and drop the state that only resuming needs."""
    write_json(folder / "member.json", summary | {"num_epochs": len(logs)})
    (folder / "state.pt").unlink(missing_ok=True)


def finished_logs(folder: Path) -> list[EpochLog]:
    """Return the log of a member that is done, else nothing."""
    if not (folder / "member.json").is_file():
        return []
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [EpochLog(**json.loads(line)) for line in lines]


def load_member(folder: Path, config: ModelConfig, device: torch.device) -> MemberModel:
    """Return a trained member, ready to predict.

    Raises
    ------
    RunError
        If the member is not done.
    """
    if not (folder / "member.json").is_file():
        raise RunError(f"{folder} is not trained to its end", action="Run releve train again with --resume")
    statistics = Statistics.model_validate_json((folder / "statistics.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "weights.safetensors")
    kind = json.loads((folder / "member.json").read_text(encoding="utf-8"))["kind"]
    if kind in TABLE_KINDS:
        return TABLE_KINDS[kind].restore(statistics, weights)
    model = build_model(statistics, config.model_copy(update={"pretrained": None}), seed=0)
    model.load_state_dict(weights)
    return model.to(device).eval()
