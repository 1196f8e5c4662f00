"""GitHub actions and reusable workflows for MLOps Level 2."""

__version__ = "0.1.0"
