"""Container images: the Docker engine by its SDK, BuildKit by the docker command, registries by their HTTP API."""
