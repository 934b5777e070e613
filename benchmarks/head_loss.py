"""The species head and its loss: species by species against a table of dense labels.

    python benchmarks/head_loss.py [--save]

Every measurement is a process of its own, so that the highest memory is its own too; the ways take turns, and each
ratio is of a pair of neighbours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from machine import describe_machine, show_page
from releve.train.head_loss import Presences, cross_entropy, head_loss

BATCH, SPECIES, PER_ROW = 1024, 11_255, 17
WIDTHS = (128, 256, 512)
PAIRS = 3


def measure(way: str, width: int, dtype: torch.dtype, repeats: int = 5) -> dict[str, float]:
    """Return the median seconds of head, loss and their gradients, and the memory that they add."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(BATCH, width, generator=generator).requires_grad_()
    weight = (torch.randn(SPECIES, width, generator=generator) * 0.02).requires_grad_()
    bias = torch.full((SPECIES,), -6.0).requires_grad_()
    keys = torch.randperm(BATCH * SPECIES, generator=generator)[: BATCH * PER_ROW].sort().values
    rows, species = keys // SPECIES, keys % SPECIES
    even = np.full(len(rows), 1 / BATCH)
    presences = Presences.of(rows.numpy(), species.numpy(), even, torch.device("cpu"))
    silence = torch.full((BATCH,), 1 / BATCH)
    inputs = (features, weight, bias)

    def dense() -> torch.Tensor:
        labels = torch.zeros(BATCH, SPECIES)
        labels[rows, species] = 1.0
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = functional.linear(*inputs)
        return functional.binary_cross_entropy_with_logits(logits.float(), labels, reduction="sum") / BATCH

    def fused() -> torch.Tensor:
        return head_loss(*inputs, presences, lambda chunk: cross_entropy(chunk, silence), dtype=dtype)

    def products() -> torch.Tensor:
        with torch.no_grad():
            x, w = features.to(dtype), weight.to(dtype)
            logits = x @ w.T
            return (logits @ w).sum() + (logits.T @ x).sum()

    work = {"dense": dense, "fused": fused, "floor": products}[way]
    before = resident_mb("VmRSS", reset=True)
    times, loss = [], torch.zeros(())
    for _ in range(repeats + 1):
        for tensor in inputs:
            tensor.grad = None
        started = time.perf_counter()
        loss = work()
        if loss.requires_grad:
            loss.backward()
        times.append(time.perf_counter() - started)
    peak = resident_mb("VmHWM")
    grad = 0.0 if weight.grad is None else float(weight.grad.norm())
    return {
        "ms": 1e3 * float(np.median(times[1:])),
        "MB": peak - before,
        "loss": loss.item(),
        "gradient": grad,
    }


def resident_mb(name: str, *, reset: bool = False) -> float:
    """Return the present (VmRSS) or highest (VmHWM) resident memory; ``reset`` forgets the highest. Linux only."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def in_process(way: str, width: int, dtype: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--width", str(width), "--dtype", dtype]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way")
    parser.add_argument("--width", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--save", action="store_true", help="write head_loss.md")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.width, getattr(torch, options.dtype))))
        return
    lines = [
        "# Head and loss: species by species against dense labels",
        "",
        f"`python benchmarks/head_loss.py --save`: {describe_machine()}. {BATCH:,} rows, {SPECIES:,} species, "
        f"{PER_ROW} of them present in a row; forward and backward, medians of {PAIRS} pairs of processes. *dense* is "
        "`binary_cross_entropy_with_logits` of `linear` on a table of 0 and 1 made for the batch, *fused* is "
        "`releve.train.head_loss`. *floor* are the three matrix products alone. Memory is what the process's "
        "highest resident size grows by. bf16 is native to this processor (AVX-512 BF16).",
        "",
        "| width | products in | dense, ms | fused, ms | times faster | floor, ms | dense, MB | fused, MB "
        "| of the memory |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    usual: dict[int, float] = {}
    notes = []
    for width in WIDTHS:
        for dtype in ("float32", "bfloat16"):
            found = [{way: in_process(way, width, dtype) for way in ("dense", "fused", "floor")} for _ in range(PAIRS)]
            middle = {w: {k: float(np.median([x[w][k] for x in found])) for k in found[0][w]} for w in found[0]}
            ratio = float(np.median([x["dense"]["ms"] / x["fused"]["ms"] for x in found]))
            dense, fused = middle["dense"], middle["fused"]
            usual.setdefault(width, dense["ms"])
            lines.append(
                f"| {width} | {dtype} | {dense['ms']:.0f} | {fused['ms']:.0f} | **{ratio:.1f}** "
                f"| {middle['floor']['ms']:.0f} | {dense['MB']:.0f} | {fused['MB']:.0f} "
                f"| {fused['MB'] / dense['MB']:.2f} |"
            )
            tolerance = 1e-5 if dtype == "float32" else 2e-2
            for name in ("loss", "gradient"):
                assert abs(dense[name] - fused[name]) <= tolerance * abs(dense[name]), (width, dtype, name)
            if dtype == "bfloat16":
                notes.append(f"{width}: {usual[width] / fused['ms']:.1f} times")
    lines += [
        "",
        f"Fused in bf16 against dense in float32, what most code does on a CPU: {', '.join(notes)}. "
        "Losses and the norms of the weights' gradients agree to 1e-5 in float32 and 2 % in bf16.",
        "",
    ]
    show_page(lines, __file__, save=options.save)


if __name__ == "__main__":
    main()
