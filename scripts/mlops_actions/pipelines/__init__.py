"""Kubeflow pipelines: compiled, checked, run on an engine, and their results collected. Talks to kfp.local."""
