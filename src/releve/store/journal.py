"""What an unfinished store already holds, kept in a file that survives a kill and lets one builder in at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from releve.errors import RunError
from releve.progress import say

try:
    import fcntl
except ImportError:  # Windows: two builders of one store are not kept apart
    fcntl = None  # type: ignore[assignment]

NAME = "journal.jsonl"


class Journal:
    """A list of the chunks that are safely in the arrays: one JSON line a chunk, read back after a kill.

    Parameters
    ----------
    part
        Folder of the unfinished store; made if need be.
    key
        What decides the bytes of the store and of its chunks, as JSON values. The work of another key is removed.

    Raises
    ------
    RunError
        If another process is building in this folder, or it holds something else.
    """

    def __init__(self, part: Path, key: dict[str, Any]) -> None:
        _refuse_foreign(part)
        part.mkdir(parents=True, exist_ok=True)
        self._handle = (part / NAME).open("a+", encoding="utf-8")
        self._lock(part)
        self._handle.seek(0)
        lines = self._handle.read().split("\n")[:-1]  # a line that the kill cut short has no newline
        entries = [json.loads(line) for line in lines]
        if entries and entries[0] == key:
            self._handle.truncate(sum(len(line.encode()) + 1 for line in lines))
            say(f"going on with the unfinished store in {part} ({len(entries) - 1} chunks are done)")
        else:
            _empty(part)
            self._handle.truncate(0)
            self._write(key)
        self.entries = {(e["array"], e["split"], e["chunk"]): e for e in entries[1:]} if entries[:1] == [key] else {}

    def of(self, array: str) -> list[dict[str, Any]]:
        """Return the entries of one array."""
        return [entry for entry in self.entries.values() if entry["array"] == array]

    def add(self, entry: dict[str, Any]) -> None:
        """Note a chunk as done; call it only after the chunk's bytes are written."""
        self.entries[entry["array"], entry["split"], entry["chunk"]] = entry
        self._write(entry)

    def close(self) -> None:
        """Let others in; what is noted stays."""
        self._handle.close()

    def _write(self, value: dict[str, Any]) -> None:
        self._handle.write(json.dumps(value) + "\n")
        self._handle.flush()

    def _lock(self, part: Path) -> None:
        """Hold the file until it is closed or the process ends, however it ends."""
        if fcntl is None:
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"another process is building the store in {part}",
                action="Wait until it has ended, or give another --out",
            ) from error


def _refuse_foreign(part: Path) -> None:
    """Raise if a folder is neither empty nor an unfinished store: what is in it is not ours to remove."""
    if part.is_dir() and any(part.iterdir()) and not (part / NAME).is_file():
        raise RunError(
            f"{part}, where the store is to be built, holds other files",
            action="Remove them, or give another --out",
        )


def _empty(part: Path) -> None:
    for path in part.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != NAME:
            path.unlink()
