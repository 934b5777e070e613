"""Relevé answers: which plants grow here.

Species distribution models for plants, deep and multi-modal, from presence-only records,
presence-absence plots, satellite patches, time series and environmental rasters.

What one may import is listed in ``PUBLIC`` and loaded when it is first asked for.

>>> import releve
>>> releve.load_config.__name__
'load_config'
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

PUBLIC = {
    "read_study": "api",
    "prepare_study": "api",
    "train_run": "api",
    "evaluate_run": "api",
    "explain_run": "api",
    "predict_places": "api",
    "Config": "config",
    "load_config": "config",
    "open_release": "ingest.release",
    "load_study": "ingest.study",
    "open_source": "ingest.study",
    "read_contents": "store.contents",
    "Store": "store.read",
    "build_store": "store.build",
    "open_store": "store.read",
    "Run": "runs.folder",
    "open_run": "runs.folder",
    "predict_probs": "runs.predict",
    "limiting_factors": "explain.limiting",
    "write_report": "report.write",
}
"""Every public name, and the module that defines it."""


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'releve' has no attribute {name!r}; it has {sorted(PUBLIC)}")
    return getattr(import_module(f"releve.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
