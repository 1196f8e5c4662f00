"""The engines that run pipelines, a module each; see `mlops_actions.engines`."""
