"""Write an explanation: its tables as CSV, arrays of one plot, and how it was made."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from releve.explain.explain import Explanation
from releve.files import atomic_path, write_json, write_text

FACTS, ARRAYS = "explain.json", "saliency.npz"


def write_explanation(found: Explanation, folder: Path) -> None:
    """Write tables, arrays and facts to a folder; what an earlier explanation wrote there is removed first.

    Parameters
    ----------
    found
        What :func:`releve.explain.explain.explain` returned.
    folder
        Made if it is not there.

    Raises
    ------
    ReleveError
        If it cannot be written.
    """
    if (folder / FACTS).is_file():
        before = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        for name in [FACTS, ARRAYS, *(f"{name}.csv" for name in before.get("tables", []))]:
            (folder / name).unlink(missing_ok=True)
    for name, table in found.tables.items():
        write_text(folder / f"{name}.csv", table.write_csv())
    if found.saliencies:
        arrays = {f"{each.modality}_raw": each.raw for each in found.saliencies}
        arrays |= {f"{each.modality}_share": each.share for each in found.saliencies}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        with atomic_path(folder / ARRAYS) as part:
            part.write_bytes(buffer.getvalue())
    write_json(folder / FACTS, found.facts)
