"""One folder of parquet tables, memory-mapped arrays and a manifest."""

from releve.store.build import DataConfig, build_store, recipe_differences, recipe_of
from releve.store.read import Store, StoredArray, open_store
from releve.store.schema import ArraySpec, Manifest

__all__ = [
    "ArraySpec",
    "DataConfig",
    "Manifest",
    "Store",
    "StoredArray",
    "build_store",
    "open_store",
    "recipe_differences",
    "recipe_of",
]
