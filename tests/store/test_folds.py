"""The folds of a store: by squares, countries or environments, and what the manifest says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ingest.fakes import STYLES
from releases import write_labelled_release
from releve.ingest.release import open_release
from releve.lists import Lists
from releve.prepare.config import SplitConfig
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import read_contents
from releve.store.read import Store


def build(release: Path, out: Path, split: SplitConfig, *modalities: str) -> Store:
    return build_store(read_contents(open_release(release), DataConfig(modalities=modalities)), split, out)  # type: ignore[arg-type]


def test_countries_are_held_out_whole_and_rows_without_one_are_counted(tmp_path: Path) -> None:
    root = write_labelled_release(tmp_path / "release", num_train=60, num_test=1)
    metadata = root / STYLES["glc24"].metadata["train"][0]
    header, *lines = metadata.read_text().splitlines()
    names = {0: "Italy", 1: "Austria", 2: ""}
    lines = [line.replace("Italy", names[int(float(line.split(",")[-1])) % 3]) for line in lines[:-2]]
    metadata.write_text("\n".join([header, *lines]) + "\n")
    store = build(root, tmp_path / "store", SplitConfig(method="country", num_folds=2))
    country = store.surveys["country"].to_list()
    pairs = {(name, int(fold)) for name, fold in zip(country, store.folds, strict=True) if name}
    assert {name for name, _ in pairs} == {"Italy", "Austria"} and {fold for _, fold in pairs} == {0, 1}
    assert len(pairs) == 2
    without = sum(row["num_without_group"] for row in store.manifest.leakage)
    assert without == sum(not name for name in country) > 0


def test_the_manifest_counts_species_that_a_fold_is_not_trained_on(labelled_release: Path, tmp_path: Path) -> None:
    store = build(labelled_release, tmp_path / "store", SplitConfig(num_folds=3, buffer_km=0.0))
    for row in store.manifest.leakage:
        inside, outside = (np.flatnonzero(found) for found in (store.folds == row["fold"], store.folds != row["fold"]))
        held_out, trained = (set(Lists.take(store.labels, rows).indices.tolist()) for rows in (inside, outside))
        assert (row["num_species"], row["num_untrained_species"]) == (len(held_out), len(held_out - trained))
        assert row["nearest_train_km"] <= row["q05_train_km"] <= row["median_train_km"] <= row["q95_train_km"]
