"""Serving by a repository that Argo CD or Flux applies."""
