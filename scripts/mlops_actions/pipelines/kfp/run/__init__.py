"""A run on Kubeflow Pipelines: started once, watched to its end, its logs, and why it failed."""
