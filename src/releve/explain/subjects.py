"""Whom an explanation is of: a species, or the community."""

from __future__ import annotations

from collections.abc import Sequence

from releve.errors import RunError, nearest
from releve.runs.folder import Run

Subject = int | None
"""Column of a species; None: the community, that is the expected number of species."""
COMMUNITY = "expected richness"


def find_species(run: Run, names: Sequence[str]) -> list[int]:
    """Return the columns of species by their names, or official ids where they have none; upper and lower case alike.

    Raises
    ------
    RunError
        If a name is not known; the message offers the nearest.
    """
    known = {str(name).casefold(): at for at, name in enumerate(run.species.tolist())}
    found = []
    for name in names:
        at = known.get(name.strip().casefold())
        if at is None:
            close = nearest(name.strip(), map(str, run.species.tolist()))
            close = close if close.startswith("did") else f"such as {', '.join(map(str, run.species[:3].tolist()))}"
            raise RunError(f"the run knows no species {name!r}", expected=f"one of its {len(known):,}", action=close)
        found.append(at)
    return list(dict.fromkeys(found))
