"""Hyperparameter tuning: Katib Experiments, run on this machine."""
