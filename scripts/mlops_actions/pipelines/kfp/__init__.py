"""The engine `kfp`: Kubeflow Pipelines over its REST API. `from kfp import …` stays the SDK: imports are absolute."""
