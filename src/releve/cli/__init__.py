"""The command line. Each command reads what the one before it wrote; none asks a question."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

import releve
from releve.cli import benchmark, data, maps, runs  # noqa: F401 (they add their commands)
from releve.cli.app import app
from releve.errors import ProcessError, ReleveError, RunError


def main() -> None:
    """Run the command line; a problem the user can mend is one message and exit code 2."""
    try:
        app()
    except (ReleveError, OSError) as error:
        if os.environ.get("RANK", "0") != "0" and not isinstance(error, ProcessError):
            sys.exit(2)  # the first of several processes says it
        Console(stderr=True, soft_wrap=True).print(Text("error:", style="bold red"), Text(str(error)))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit")] = False,
) -> None:
    """Hold the options of the program itself."""
    if show:
        print(releve.__version__)
        raise typer.Exit
    if os.environ.get("WORLD_SIZE", "1") != "1" and context.invoked_subcommand != "train":
        raise RunError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes of releve {context.invoked_subcommand}",
            expected="releve train, the one command that several processes share",
            action="Run releve prepare, torchrun -m releve train, releve evaluate and releve predict one by one",
        )
