"""Kubeflow Pipelines' (KFP) HTTP: its REST API, its sign-ins, and gRPC-web for the metadata service."""
