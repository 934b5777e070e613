"""What is known of the epochs of a training, and which of them is kept."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np


@dataclass(frozen=True)
class EpochLog:
    """One line of ``metrics.jsonl``."""

    epoch: int
    train_loss: float
    selection_loss: float | None
    """Of the rows that the epoch is selected on, as ``selection_sf1``; None without any."""
    selection_sf1: float | None
    learning_rate: float
    seconds: float


def has_stalled(logs: list[EpochLog], patience: int, first: int = 0) -> bool:
    """Return whether the sF1 of the selection rows has not improved for ``patience`` epochs of the last phase."""
    return len(logs) > first and len(logs) - 1 - best_epoch(logs, first) >= patience


def best_epoch(logs: list[EpochLog], first: int = 0) -> int:
    """Return the epoch with the highest sF1 of the selection rows, from epoch ``first`` on; of equals, the first.

    The sF1 is smoothed: an epoch counts half, those before it the other half in the same way, since selection rows are
    few and one lucky early epoch would end the training. Without selection rows it is the last epoch.

    Examples
    --------
    >>> logs = [EpochLog(e, 0.0, 0.0, score, 0.0, 0.0) for e, score in enumerate([0.20, 0.31, 0.30, 0.29, 0.20])]
    >>> best_epoch(logs)
    3
    """
    scores = [log.selection_sf1 for log in logs[first:] if log.selection_sf1 is not None]
    smoothed = list(accumulate(scores, lambda before, score: (before + score) / 2))
    return first + int(np.argmax(smoothed)) if smoothed else len(logs) - 1
