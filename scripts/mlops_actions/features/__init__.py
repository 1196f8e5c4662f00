"""Features: a Feast repository planned, applied, materialized and read back. Talks to Feast alone."""
