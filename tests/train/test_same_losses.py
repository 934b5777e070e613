"""A change that is meant to change nothing gives the same losses, to the last bit.

``losses.json`` holds the losses of small trainings, as hexadecimal floats, with the processor and torch that they were
made on. There they must be the same; elsewhere sums are rounded in another order, and they must agree to 1e-4. After a
change that is meant to change them: ``python tests/train/test_same_losses.py``, and say why in the commit.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from releve.models.config import ModelConfig
from releve.prepare.config import SplitConfig
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.loop import train_member
from releve.train.members import Member

sys.path.insert(0, str(Path(__file__).parents[1]))
from stores import make_mixed_store

FILE = Path(__file__).with_name("losses.json")
TABLES = {"modalities": ["covariates", "survey", "location"]}
SERIES = {"modalities": ["covariates", "landsat", "climate"], "series_width": 4}
CASES = {
    "plots": {"model": TABLES, "train": {"selection_share": 0.2}},
    "plots, rare species": {"model": TABLES, "train": {"class_weight": 0.5, "loss": "asymmetric", "accumulate": 2}},
    "plots, years": {"model": SERIES},
    "plots, convolution": {"model": SERIES | {"series_encoder": "convolution"}},
    "plots, patches": {"model": {"modalities": ["patch"], "fusion": "direct", "patch_backbone": "test_resnet"}},
    "records": {"model": TABLES, "train": {"regime": "po"}, "records": {"background": "mixed"}},
    "records, maxent": {"model": TABLES, "train": {"regime": "po"}, "records": {"loss": "deep_maxent"}},
    "both": {"model": TABLES, "train": {"regime": "presence", "selection_share": 0.2}},
    "classes": {"model": TABLES, "train": {"regime": "classes"}, "records": {"pretrain_epochs": 1}},
}


def losses_of(case: dict) -> list[str]:
    """Return training and selection losses of two epochs, one after the other."""
    model = ModelConfig.model_validate({"embedding_dim": 8, "hidden_dim": 16} | case["model"])
    config = TrainConfig.model_validate({"epochs": 2, "batch_size": 30, "device": "cpu"} | case.get("train", {}))
    records = RecordsConfig.model_validate(case.get("records", {}))
    with TemporaryDirectory() as folder:
        split = SplitConfig(buffer_km=1)
        logs = train_member(make_mixed_store(), Member(0, 1, 7), model, config, split, Path(folder), records=records)
    return [float(loss).hex() for log in logs for loss in (log.train_loss, log.selection_loss) if loss is not None]


def machine() -> dict[str, str]:
    """Return what the order of sums depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("cpu family", "model", "stepping"))]
    return {"torch": torch.__version__, "processor": ", ".join(named[:4]) or platform.processor()}


@pytest.mark.parametrize("name", CASES)
def test_the_losses_are_those_of_before(name: str) -> None:
    known = json.loads(FILE.read_text(encoding="utf-8"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        losses = losses_of(CASES[name])
    finally:
        torch.set_num_threads(threads)
    if known["machine"] == machine():
        assert losses == known["losses"][name]
    ours, theirs = ([float.fromhex(loss) for loss in found] for found in (losses, known["losses"][name]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = {"machine": machine(), "losses": {name: losses_of(case) for name, case in CASES.items()}}
    FILE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
