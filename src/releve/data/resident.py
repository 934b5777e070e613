"""Which modalities live on the training device, and which stay in the store's files."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from releve.store.read import Store, StoredArray

RESIDENT_SHARE = 0.5
"""Share of a GPU's free memory that modalities may take; the rest is for weights, activations and gradients."""
UPLOAD_BYTES = 2**28


def plan_residents(store: Store, modalities: tuple[str, ...], free_bytes: int) -> dict[str, int]:
    """Return the modalities that fit into a device's memory and their bytes, the smallest first.

    Encoded patches are never among them: they are decoded on the CPU.

    Parameters
    ----------
    store
        An open store.
    modalities
        What the model looks at.
    free_bytes
        Free memory of the device; a share of it may be used.
    """
    arrays = {name: store.arrays[name] for name in modalities if name in store.arrays}
    sizes = {name: array.values.nbytes for name, array in arrays.items() if array.offsets is None}
    placed, room = {}, free_bytes * RESIDENT_SHARE
    for name in sorted(sizes, key=sizes.__getitem__):
        if sizes[name] <= room:
            placed[name] = sizes[name]
            room -= sizes[name]
    return placed


def place_arrays(store: Store, modalities: tuple[str, ...], device: torch.device) -> dict[str, Tensor]:
    """Return the modalities that a GPU holds whole, in their raw types; none on a CPU, which maps the files."""
    if device.type != "cuda":
        return {}
    torch.cuda.empty_cache()  # what an earlier member of the run held counts as free
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return {name: upload(store.arrays[name], device) for name in plan_residents(store, modalities, free_bytes)}


def upload(array: StoredArray, device: torch.device) -> Tensor:
    """Return (rows, *shape) values of a raw array on a device, copied block by block; uint16 as the bits of int16."""
    dtype = np.dtype("int16") if array.spec.dtype == "uint16" else np.dtype(array.spec.dtype)
    values = torch.empty(array.values.shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, device=device)
    block = max(1, UPLOAD_BYTES // max(1, array.values[:1].nbytes))
    for first in range(0, len(values), block):
        values[first : first + block] = torch.from_numpy(np.array(array.values[first : first + block]).view(dtype))
    return values
