"""Kubernetes: one adapter for all that speaks to a cluster."""
