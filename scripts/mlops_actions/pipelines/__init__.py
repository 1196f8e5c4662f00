"""Kubeflow pipelines: compiled, checked, run on an engine, their results collected. Talks to KFP and Docker."""
