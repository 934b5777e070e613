"""Maps: a run's predictions for every cell of a grid, tile by tile, in a folder that answers both of a map's questions."""
