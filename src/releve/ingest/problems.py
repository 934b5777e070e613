"""What was wrong with one survey's file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A file that gave no data: whose it is, where it lies (from the release's root) and what was found."""

    split: str
    modality: str
    survey_id: str
    path: str
    what: str
