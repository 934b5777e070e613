"""One folder of parquet tables, memory-mapped arrays and a manifest."""
