from __future__ import annotations

from pathlib import Path
from typing import Never

import pytest

from releve import demo
from releve.errors import RunError
from releve.store.chunks import num_cores


def fail(*_: object) -> Never:
    raise KeyboardInterrupt


def test_a_demo_that_was_killed_can_be_overwritten_and_other_folders_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "simulate_release", fail)
    for overwrite in (False, True):
        with pytest.raises(KeyboardInterrupt):
            demo.run_demo(tmp_path / "demo", overwrite=overwrite)
    (tmp_path / "demo" / "thesis.tex").write_text("keep")
    with pytest.raises(RunError, match="thesis"):
        demo.run_demo(tmp_path / "demo", overwrite=True)
    (tmp_path / "mine" / "release" / "truth").mkdir(parents=True)
    with pytest.raises(RunError, match="not made by releve demo"):
        demo.run_demo(tmp_path / "mine", overwrite=True)


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3}, raising=False)
    assert num_cores() == 1
    assert demo.num_cores is num_cores
