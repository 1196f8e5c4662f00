"""The server of a release by the Open Inference Protocol (v2), REST and gRPC, in the model's own environment.

https://github.com/kserve/open-inference-protocol. `python -m mlops_actions.serving.server FOLDER` serves the release
that `FOLDER/release.json` describes (`serving.served`). It is the same on one machine and in a container. Every answer
says who gave it: `model_version`, and the headers `mlops-release`, `mlops-version` and `mlops-digest`.

A request that does not fit the model is status 400 with the reason; so is what the model itself refuses with a
ValueError, TypeError or KeyError. Any other exception is status 500, and its traceback is in the log.
"""
