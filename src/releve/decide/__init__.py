"""From probabilities to species lists: rules, their fitted settings, and calibration."""
