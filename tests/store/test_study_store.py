"""A release that a study.toml describes gives the store that the release itself gives: one path for all data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ingest.fakes import SHARED
from releve.files import file_sha256
from releve.ingest.layouts import COVARIATES
from releve.ingest.release import open_release
from releve.ingest.study import load_study
from releve.ingest.text import read_header
from releve.prepare.config import SplitConfig
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import read_contents

MINI = SHARED / "geoplant-mini"


def study_of_release(release: Path, out: Path) -> Path:
    """Write the study.toml of the training plots of a release with tables of covariates."""
    opened = open_release(release)
    plots = release / opened.tables("train", opened.split_rules("train").metadata)[0]
    lines = ["[study]", 'title = "the same plots"', "[[study.plots]]", f"file = {json.dumps(str(plots))}"]
    for group in COVARIATES:
        for table in opened.tables("train", group.table):
            names = [name for name in read_header(release / table) if group.range_of(name) is not None]
            lines += ["[[study.covariates]]", f"file = {json.dumps(str(release / table))}", f'group = "{group.group}"']
            lines += [f"columns = {json.dumps(names)}", "[study.covariates.ranges]"]
            for name in names:
                rule = group.range_of(name)
                assert rule is not None
                fills = f"fills = {list(rule.fills)}, " if rule.fills else ""
                lines.append(
                    f'"{name}" = {{ low = {rule.low}, high = {rule.high}, {fills}units = {json.dumps(rule.units)}, '
                    f"categorical = {str(rule.categorical).lower()} }}"
                )
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out / "study.toml"


@pytest.mark.parametrize("which", ["simulated", "real"])
def test_a_release_read_as_a_study_gives_the_same_bytes(which: str, labelled_release: Path, tmp_path: Path) -> None:
    root = labelled_release if which == "simulated" else MINI
    if not root.is_dir():
        pytest.skip("needs the real plots")
    data, split = DataConfig(modalities=("covariates",)), SplitConfig(block_size_km=50, num_folds=5, buffer_km=1)
    release = build_store(read_contents(open_release(root), data), split, tmp_path / "release")
    study = load_study(study_of_release(root, tmp_path / "study"))
    own = build_store(read_contents(study, data), split, tmp_path / "own")
    names = sorted(file.name for file in (tmp_path / "release").iterdir() if file.name != "manifest.json")
    assert names == sorted(file.name for file in (tmp_path / "own").iterdir() if file.name != "manifest.json")
    assert [file_sha256(tmp_path / "own" / name) for name in names] == [
        file_sha256(tmp_path / "release" / name) for name in names
    ]
    theirs, ours = release.manifest.model_dump(), own.manifest.model_dump()
    assert {name for name in theirs if theirs[name] != ours[name]} == {"release", "origin", "fingerprint"}
    assert np.isfinite(own.arrays["covariates"].values).any()
