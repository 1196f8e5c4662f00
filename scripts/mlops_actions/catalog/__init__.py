"""A registry as a static site: models, versions, metrics over time, aliases, deployments, and two versions compared."""
