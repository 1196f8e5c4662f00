"""One HTTP client for every server that the actions speak to themselves: Kubernetes, Kubeflow Pipelines, a registry.

`client` sends requests, `retry` repeats them, `faults` says what went wrong, `tls` decides whom to trust, `proxies`
which way to go. A user of it adds its paths, its sign-in, and the settings that correct a fault (`Remedies`).
"""
