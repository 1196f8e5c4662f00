"""The engines that serve models, a module each; see `mlops_actions.engines`."""
