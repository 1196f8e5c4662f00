"""The runner: what GitHub tells a step (context), what a step tells GitHub or a person (console), and GitHub's API."""
