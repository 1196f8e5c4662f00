"""Serving a registered version by the Open Inference Protocol, and going back when it does not do what it promised."""
