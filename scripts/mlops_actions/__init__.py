"""GitHub actions and reusable workflows for MLOps Level 2."""

__version__ = "0.1.0"

RESULTS = ".".join(__version__.split(".")[:2])
"""The part of the version that keys of finished work hold: a release that gives another result for the same work
raises it (the major or minor number), and such work is done again; a patch never does."""
