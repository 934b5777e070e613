"""Official releases, read as they are published: one reader, and one row of data for each layout."""
