"""Models in use: drift, freshness and live quality."""
