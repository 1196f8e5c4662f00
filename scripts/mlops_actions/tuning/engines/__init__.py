"""The engines that run Experiments, a module each; see `mlops_actions.engines`."""
