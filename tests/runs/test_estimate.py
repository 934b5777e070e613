"""What a training will take is told before it is started, from the real store, model and steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from releve.config import make_config
from releve.data.gather import prefetch
from releve.data.resident import plan_residents
from releve.errors import StoreError
from releve.runs.estimate import estimate_training, readable
from releve.store.config import recipe_of
from releve.train.config import TrainConfig
from releve.train.device import matrix_dtype
from stores import make_mixed_store, make_store

CONFIG = make_config(
    {
        "data": {"records": "po"},
        "model": {"modalities": ["covariates", "landsat"], "embedding_dim": 8, "hidden_dim": 16, "series_width": 4},
        "records": {"pretrain_epochs": 3},
        "train": {"regime": "classes", "num_folds": 2, "kinds": ["network", "forest"], "epochs": 4, "batch_size": 20},
    },
    origin="test",
)


def matching_store():
    store = make_mixed_store()
    recipe = recipe_of(CONFIG.data, CONFIG.split, CONFIG.clean, CONFIG.pseudoplots)
    return type(store)(
        store.path,
        store.manifest.model_copy(update={"recipe": recipe}),
        store.surveys,
        store.species,
        store.labels,
        store.arrays,
    )


def test_rows_memory_steps_and_time_are_told() -> None:
    facts = estimate_training(CONFIG, matching_store())
    assert facts["species"] == "8"
    plots, records = (int(text.split()[0]) for text in facts["rows trained on"].split(", "))
    assert 0 < plots < 120 and 0 < records < 180
    assert facts["landsat"] == "9 kB, mapped file"  # 225 rows of 2 x 5 x 4 bytes
    assert facts["phase 1: steps an epoch, seconds a step"].startswith(f"{-(-records // 20)}, ")
    assert facts["phase 2: steps an epoch, seconds a step"].startswith(f"{-(-plots // 20)}, ")
    assert (facts["members: network"], facts["members: forest"]) == ("2", "2")
    number = int(facts["parameters"].replace(",", ""))
    assert number > 500 and facts["weights, average, gradients, AdamW"] == readable(20 * number)
    assert facts["time of all networks, at most"].endswith((" s", " min"))


def test_another_recipes_store_is_refused() -> None:
    with pytest.raises(StoreError, match="made by another recipe"):
        estimate_training(CONFIG, make_mixed_store())


def test_the_smallest_modalities_are_placed_on_a_device_first_and_encoded_patches_never() -> None:
    store = make_store(60)
    names = ("covariates", "landsat", "climate", "patch", "location")
    sizes = {name: store.arrays[name].values.nbytes for name in names[:-1]}
    assert plan_residents(store, names, 10 * sum(sizes.values())) == sizes
    small = sorted(sizes, key=sizes.__getitem__)[:2]
    half = 2 * (sum(sizes[name] for name in small) + 1)  # half of the free memory may be used
    assert list(plan_residents(store, names, half)) == small
    assert plan_residents(store, names, 0) == {}


def test_work_done_ahead_keeps_its_order_and_says_what_went_wrong() -> None:
    done = []
    for value in prefetch(lambda x: x * x, range(20), depth=3):
        done.append(value)
    assert done == [x * x for x in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda x: 1 // x, [1, 0, 2], depth=2))
    some = prefetch(str, iter(range(1000)), depth=2)
    assert next(some) == "0"
    some.close()  # a training that stops in the midst of an epoch


def test_matrix_products_are_in_the_precision_asked_for() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert matrix_dtype(TrainConfig(precision="bf16"), cpu) == torch.bfloat16
    assert matrix_dtype(TrainConfig(precision="fp32"), cuda) == torch.float32
    assert matrix_dtype(TrainConfig(), cuda) == torch.bfloat16


def test_only_training_is_shared_by_processes(tmp_path: Path) -> None:
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0"}
    command = [sys.executable, "-m", "releve", "check", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "torchrun started 2 processes of releve check" in done.stderr
    quiet = subprocess.run(
        command, env=environment | {"RANK": "1"}, capture_output=True, text=True, timeout=120, check=False
    )
    assert quiet.returncode == 2 and not quiet.stderr.strip()
    alone = ["train", str(tmp_path / "r.toml"), "--store", str(tmp_path), "--out", "o", "--dry-run"]
    for name in ("r.toml", "manifest.json"):
        (tmp_path / name).write_text("")
    done = subprocess.run(
        [*command[:3], *alone], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2 and "Start it without torchrun" in done.stderr


def test_resident_values_are_those_of_the_files() -> None:
    from releve.data.gather import Gatherer
    from releve.data.resident import upload

    store, rows = make_store(60), np.array([3, 17, 5, 41])
    names = ("covariates", "landsat", "climate", "patch")
    held = {name: upload(store.arrays[name], torch.device("cpu")) for name in names}
    mapped, resident = Gatherer(store, names, {}).batch(rows), Gatherer(store, names, {}, resident=held).batch(rows)
    for name in names:
        assert resident.values[name].dtype == mapped.values[name].dtype
        torch.testing.assert_close(resident.values[name], mapped.values[name], equal_nan=True)
