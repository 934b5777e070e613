"""What drives a run's predictions: importance of variables, response curves, limiting factors, saliency."""
