"""Serving in a Kubernetes cluster."""
