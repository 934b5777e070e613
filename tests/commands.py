"""Run the real command line in processes of its own, quickly: one process imports everything and forks the others.

Importing torch takes seconds; a fork takes none. The child calls ``releve.cli.main()`` on an argument list as the
console script does, in a process that can be killed. The mother only imports: it has no threads when it forks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = """
import json, os, sys
import releve.cli, releve.pipeline, releve.store.write
import releve.evaluate.evaluation, releve.report.write, releve.runs.ensemble  # what commands import when they need it
import sklearn.decomposition, sklearn.ensemble
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        status = os.waitpid(job["wait"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.setsid()
    for stream, path in ((1, job["stdout"]), (2, job["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if job["chunk_size"]:
        releve.store.write.CHUNK_SIZE = job["chunk_size"]
    if job["tile_size"]:
        import releve.predict.maps.grid
        releve.predict.maps.grid.TILE_SIZES = {2**20: job["tile_size"]}
    if job["file_limit"]:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
    sys.argv = ["releve", *job["arguments"]]
    code = 0
    try:
        releve.cli.main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str


def strict_json(text: str) -> dict[str, Any]:
    """Return what a command printed with --json: one object, without the NaN and Infinity that JSON does not have."""

    def refuse(token: str) -> None:
        raise ValueError(f"{token} is no JSON")

    content = json.loads(text, parse_constant=refuse)
    assert isinstance(content, dict)
    return content


class Commands:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | one_thread | {"COLUMNS": "80", "NO_COLOR": "1"},
        )

    def start(self, *arguments: object, chunk_size: int = 0, file_limit: int = 0, tile_size: int = 0) -> int:
        """Start a command and return its process id."""
        job = {
            "arguments": [str(a) for a in arguments],
            "stdout": str(self.folder / "stdout"),
            "stderr": str(self.folder / "stderr"),
            "chunk_size": chunk_size,
            "file_limit": file_limit,
            "tile_size": tile_size,
        }
        return int(self._ask(job))

    def wait(self, pid: int) -> Done:
        code = int(self._ask({"wait": pid}))
        out, err = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        return Done(code, out, err)

    def run(self, *arguments: object, chunk_size: int = 0, file_limit: int = 0, tile_size: int = 0) -> Done:
        options = {"chunk_size": chunk_size, "file_limit": file_limit, "tile_size": tile_size}
        return self.wait(self.start(*arguments, **options))

    def kill(self, pid: int) -> Done:
        os.kill(pid, signal.SIGKILL)  # a child that has ended is not yet waited for, so the id is still its own
        return self.wait(pid)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=30)

    def _ask(self, job: dict[str, object]) -> str:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()
