"""Kills, full disks, and two builders at once, with the real command."""

from __future__ import annotations

import errno
import os
import random
import time
from pathlib import Path

import pytest

from commands import Commands
from ingest.fakes import write_release
from releve.errors import ReleveError, RunError
from releve.ingest.release import open_release
from releve.store.build import build_store
from releve.store.config import DataConfig
from releve.store.contents import read_contents
from releve.store.journal import Journal

CHUNK_SIZE = 4


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "run.json"}


def prepare(release: Path, out: Path, storage: str) -> list[object]:
    recipe = out.parent / "recipe.toml"
    recipe.write_text("[split]\nblock_size_km = 60\nnum_folds = 3\n")
    return ["prepare", recipe, "--data", release, "--out", out, "--set", f"data.patch_storage={storage}"]


@pytest.mark.parametrize("storage", ["raw", "encoded"])
def test_a_killed_prepare_ends_with_the_same_bytes(
    storage: str, commands: Commands, labelled_release: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "store"
    assert commands.run(*prepare(labelled_release, whole, storage), chunk_size=CHUNK_SIZE).code == 0
    journal = tmp_path / "store.part" / "journal.jsonl"

    def num_entries() -> int:
        return journal.read_bytes().count(b"\n") if journal.is_file() else 0

    num_kills = num_resumed = 0
    for goal in sorted(random.Random(storage).sample(range(2, 36), 10)):  # of 45 chunks: two series and patches
        pid = commands.start(*prepare(labelled_release, out, storage), chunk_size=CHUNK_SIZE)
        while num_entries() < goal and not out.exists():  # whatever it is at then
            time.sleep(0.0005)
        done = commands.kill(pid)
        if out.exists():  # it was done before the kill
            break
        assert done.code == -9, done.stderr
        num_kills += 1
        num_resumed += "going on with the unfinished store" in done.stderr
    assert num_kills >= 5 and num_resumed >= 2
    done = commands.run(*prepare(labelled_release, out, storage), chunk_size=CHUNK_SIZE)
    assert done.code == 0, done.stderr
    assert contents(out) == contents(whole)
    assert not list(tmp_path.glob("*.part"))


def test_a_line_of_the_journal_that_was_cut_is_written_again(tmp_path: Path) -> None:
    key = {"seed": 0}
    journal = Journal(tmp_path / "x.part", key)
    journal.add({"array": "patch", "split": "train", "chunk": 0})
    journal.close()
    file = tmp_path / "x.part" / "journal.jsonl"
    text = file.read_text()
    file.write_text(text + '{"array": "patch", "spl')
    journal = Journal(tmp_path / "x.part", key)
    assert len(journal.entries) == 1
    journal.close()
    assert file.read_text() == text


def test_the_unfinished_work_of_another_recipe_is_removed(tmp_path: Path) -> None:
    Journal(tmp_path / "x.part", {"seed": 0}).close()
    (tmp_path / "x.part" / "patch.npy").write_text("old")
    Journal(tmp_path / "x.part", {"seed": 1}).close()
    assert [p.name for p in (tmp_path / "x.part").iterdir()] == ["journal.jsonl"]


def test_chunks_of_another_size_are_not_gone_on_with(
    commands: Commands, labelled_release: Path, tmp_path: Path
) -> None:
    command = prepare(labelled_release, tmp_path / "store", "encoded")
    assert commands.run(*command, chunk_size=CHUNK_SIZE, file_limit=200_000).code == 2
    done = commands.run(*command, chunk_size=2 * CHUNK_SIZE)
    assert done.code == 0 and "going on" not in done.stderr


def test_two_builders_do_not_meet(tmp_path: Path) -> None:
    release = open_release(write_release(tmp_path / "release", "glc24"))
    first = Journal(tmp_path / "store.part", {"seed": 0})
    with pytest.raises(RunError, match="another process"):
        build_store(read_contents(release, DataConfig()), None, tmp_path / "store")
    first.close()
    assert len(build_store(read_contents(release, DataConfig()), None, tmp_path / "store")) == 4


@pytest.mark.parametrize("storage", ["raw", "encoded"])
@pytest.mark.parametrize("limit", [3_000, 30_000, 200_000])
def test_a_file_that_cannot_grow_is_a_clear_error_and_a_rerun_completes(
    storage: str, limit: int, commands: Commands, labelled_release: Path, tmp_path: Path
) -> None:
    """A limit on the size of files fails like a full disk: in the tables, in the arrays, or when space is claimed."""
    command = prepare(labelled_release, tmp_path / "store", storage)
    done = commands.run(*command, chunk_size=CHUNK_SIZE, file_limit=limit)
    assert done.code == 2 and "Traceback" not in done.stderr
    assert "cannot write" in done.stderr and "Free some space" in done.stderr
    assert not (tmp_path / "store").exists()
    done = commands.run(*command, chunk_size=CHUNK_SIZE)
    assert done.code == 0, done.stderr
    assert "going on with the unfinished store" in " ".join(done.stderr.split())
    commands.run(*prepare(labelled_release, tmp_path / "whole", storage))
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_a_full_disk_is_met_when_space_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = open_release(write_release(tmp_path / "release", "glc24"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(ReleveError, match=r"No space left on device, .* GB free there.*Free some space"):
            build_store(read_contents(release, DataConfig()), None, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert len(build_store(read_contents(release, DataConfig()), None, tmp_path / "store")) == 4


def test_an_output_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = open_release(write_release(tmp_path / "release", "glc24"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ReleveError, match=r"cannot write .*Not a directory.*may write"):
        build_store(read_contents(release, DataConfig()), None, tmp_path / "file" / "store")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(ReleveError, match=r"cannot write .*Read-only file system.*may write"):
        build_store(read_contents(release, DataConfig()), None, tmp_path / "store")
