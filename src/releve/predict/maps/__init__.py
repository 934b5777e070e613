"""A run's predictions for every cell of a grid, in a folder that tells what grows where."""
