"""Several processes that train together do what one does; lost ones are told of, and the rest goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from releve.errors import RunError
from releve.train import trouble
from releve.train.config import RecordsConfig, TrainConfig
from releve.train.device import choose_device
from releve.train.processes import GlobalBatchNorm, Processes
from releve.train.trouble import check_parts

HERE = Path(__file__).parent
TABLES = {"modalities": ["covariates", "survey", "location"]}
CASES = {
    "plots": {"train": {"regime": "pa"}},
    "parts": {"train": {"regime": "pa", "accumulate": 2}, "model": TABLES},
    "both": {"train": {"regime": "presence"}, "records": {"background": "mixed"}},
    "maxent": {
        "train": {"regime": "po", "batch_size": 41},
        "records": {"loss": "deep_maxent", "background": "mixed"},
        "model": TABLES,
    },
    "direct": {"train": {"regime": "pa", "batch_size": 9}, "model": {"modalities": ["patch"], "fusion": "direct"}},
}


def start(folder: Path, cases: dict, num_ranks: int) -> subprocess.CompletedProcess:
    """Run the cases with so many processes."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks)] if num_ranks > 1 else []
    command = [sys.executable, *launcher, str(HERE / "ranks.py"), str(folder), json.dumps(cases)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def logs(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """Plots, plots and records, gradients in parts, a softmax over the sites of both, patches that some rows lack.

    In float32, without dropout, with shares of unequal size and several chunks of species.
    """
    for name, number in (("one", 1), ("two", 2)):
        done = start(tmp_path / name, CASES, number)
        assert done.returncode == 0, done.stderr
    for case in CASES:
        ours, theirs = logs(tmp_path / "one" / case), logs(tmp_path / "two" / case)
        assert len(ours) == len(theirs) == 2
        for name in ("train_loss", "selection_sf1", "learning_rate"):
            np.testing.assert_allclose([x[name] for x in ours], [x[name] for x in theirs], rtol=1e-5, atol=1e-6)
        if case != "maxent":  # its loss leaves the biases free, and AdamW then follows rounding errors
            np.testing.assert_allclose(
                [x["selection_loss"] for x in ours], [x["selection_loss"] for x in theirs], rtol=1e-4
            )
    statistics = [name for name in load_file(tmp_path / "one/plots/weights.safetensors") if "running" in name]
    assert len(statistics) > 10
    one, two = (load_file(tmp_path / name / "plots/weights.safetensors") for name in ("one", "two"))
    for name in statistics:
        # A bias before a batch norm is free: its true gradient is zero, AdamW follows rounding errors by up to a
        # learning rate (1e-3) a step, and the mean after it goes along; rounding in one process does the same.
        free = name.endswith("stem.1.running_mean")
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=2e-3 if free else 2e-4)


def test_when_a_process_is_killed_all_stop_and_another_number_of_them_goes_on(tmp_path: Path) -> None:
    case = {"train": {"regime": "pa", "epochs": 3}, "model": TABLES}
    steps = 3  # of an epoch: the last process dies in the second
    broken = start(tmp_path / "broken", {"x": case | {"kill_at": steps + 2}}, 2)
    assert broken.returncode != 0
    assert "another was lost" in broken.stderr and "--resume" in broken.stderr
    assert len(logs(tmp_path / "broken/x")) == 1
    assert not (tmp_path / "broken/x/member.json").exists()
    for folder in ("broken", "whole"):
        done = start(tmp_path / folder, {"x": case | {"resume": True}}, 1)
        assert done.returncode == 0, done.stderr
    resumed, whole = logs(tmp_path / "broken/x"), logs(tmp_path / "whole/x")
    assert len(resumed) == len(whole) == 3
    np.testing.assert_allclose([x["train_loss"] for x in resumed], [x["train_loss"] for x in whole], rtol=1e-5)


def test_what_goes_wrong_in_one_process_alone_is_said_by_it(tmp_path: Path) -> None:
    done = start(tmp_path, {"x": {"train": {"regime": "pa"}, "model": TABLES, "fail_at": 2}}, 2)
    assert done.returncode != 0
    assert "process 1: process 1 of 2: memory ran out here" in done.stderr


def test_more_processes_or_parts_than_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_parts(8, TrainConfig(accumulate=4), RecordsConfig())
    with pytest.raises(RunError, match=r"smallest step has 3 rows for 1 processes and train.accumulate = 4.*at least"):
        check_parts(3, TrainConfig(accumulate=4), RecordsConfig())
    monkeypatch.setattr(trouble, "processes", lambda: Processes(0, 4))
    with pytest.raises(RunError, match="3 rows for 4 processes.*Start fewer processes"):
        check_parts(3, TrainConfig(), RecordsConfig())


def test_a_softmax_over_the_rows_of_a_step_is_not_taken_in_parts() -> None:
    records = RecordsConfig(loss="deep_maxent")
    with pytest.raises(RunError, match="deep_maxent.*softmax"):
        check_parts(90, TrainConfig(regime="po", accumulate=2), records)
    check_parts(90, TrainConfig(regime="po"), records)


def test_alone_nothing_is_shared() -> None:
    values = torch.tensor([1.0, 2.0])
    alone = Processes()
    assert alone.sum(values) is values and alone.log_sum_exp(values) is values
    assert alone.gather_rows(values, 2) is values
    assert alone.share(np.arange(3)).tolist() == [0, 1, 2]
    assert alone.on_first(lambda: 5) == 5


def test_the_shared_batch_norm_is_torchs_where_there_is_one_process() -> None:
    ours, theirs = GlobalBatchNorm(3), torch.nn.BatchNorm2d(3)
    x = torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    weight = torch.arange(x.numel()).reshape(x.shape) / 50
    for norm, values in zip((ours, theirs), inputs, strict=True):
        (norm(values) * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_one_gpu_by_name_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="train.device is 'cuda:0' with 2 processes.*each process then takes a GPU"):
        choose_device("cuda:0")


def test_a_run_that_not_all_processes_can_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Processes, "agree", lambda self, number: False)
    training = SimpleNamespace(logs=[1, 2], processes=Processes())
    with pytest.raises(RunError, match="process 0 goes on after 2 epochs .*one folder that all processes read") as e:
        trouble.check_start(training, tmp_path)
    assert e.value.shared
