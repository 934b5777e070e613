"""A process of several that train together: `torchrun tests/train/ranks.py FOLDER CASES`; alone it trains by itself.

CASES is a JSON object: name -> settings of the training, the records and the model, and ``kill_at`` or ``fail_at``, the
step at which the last process is killed or runs out of memory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from releve.errors import ReleveError, RunError
from releve.models import patches
from releve.models.config import ModelConfig
from releve.prepare.config import SplitConfig
from releve.train import head_loss, loop
from releve.train import step as step_module
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.members import Member
from releve.train.processes import joined_processes, processes
from stores import make_mixed_store

MODEL = {
    "modalities": ["covariates", "survey", "landsat", "climate", "patch"],
    "embedding_dim": 8,
    "hidden_dim": 16,
    "series_width": 4,
    "series_encoder": "convolution",
    "patch_backbone": "test_resnet",
    "dropout": 0.0,
    "input_dropout": 0.0,
    "modality_dropout": 0.0,
}


def run_case(folder: Path, case: dict[str, Any]) -> None:
    """Train one member of a small store."""
    config = TrainConfig(**{"epochs": 2, "batch_size": 30, "device": "cpu"} | case.get("train", {}))
    records = RecordsConfig(**case.get("records", {}))
    model = ModelConfig(**MODEL | case.get("model", {}))
    take_step, taken = step_module.take_step, []

    def broken(*arguments: Any) -> Any:
        taken.append(1)
        if processes().rank == int(os.environ.get("WORLD_SIZE", "1")) - 1:
            if len(taken) == case.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)
            if len(taken) == case.get("fail_at"):
                raise RunError("memory ran out here")
        return take_step(*arguments)

    step_module.take_step = broken
    store, member = make_mixed_store(), Member(0, 1, 7)
    resume = case.get("resume", False)
    loop.train_member(store, member, model, config, SplitConfig(buffer_km=1), folder, records=records, resume=resume)
    step_module.take_step = take_step


def main() -> None:
    """Run all cases in the processes that there are."""
    torch.set_num_threads(1)
    patches.turn = lambda patch_BCHW: patch_BCHW  # every process would turn others
    head_loss.chunk_size = lambda num_rows, device: 1 + num_rows % 3  # several chunks, as with thousands of species
    folder, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    try:
        with joined_processes():
            for name, case in cases.items():
                run_case(folder / name, case)
    except ReleveError as error:
        print(f"process {os.environ.get('RANK', '0')}: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
