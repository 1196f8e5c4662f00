"""Schedules of `mlops.yaml` as the recurring runs of Kubeflow Pipelines."""
