"""The algorithms that choose trials' parameters, each in a module of its own, with Katib's names and settings."""
