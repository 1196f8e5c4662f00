"""Models: metrics and gates, and golden predictions in other environments."""
