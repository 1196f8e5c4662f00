"""Experiments run by Katib: the YAML is applied to a Kubernetes cluster, and watched until it is complete."""
