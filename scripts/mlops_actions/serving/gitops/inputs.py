"""What the engine `git` takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from ..cluster.inputs import ServingClusterInputs


class GitOpsInputs(ServingClusterInputs):
    """What the engine `git` takes."""

    gitops_repository: str = Field(
        "",
        description="The repository that Argo CD or Flux applies: `owner/name` on GitHub, a URL, or a path.",
        examples=["my-org/deployments"],
    )
    gitops_objects: Literal["kubernetes", "kserve"] = Field(
        "kubernetes",
        description="Of which engine the objects are that are written, with that engine's inputs: Deployments of"
        " `kubernetes`, or InferenceServices of `kserve`, with its Route where `deployment-mode` is Knative.",
    )
    gitops_branch: str = Field("", description="Its branch. By default the repository's own.")
    gitops_path: str = Field(
        "models", description="Its folder for models; each model has one below it, in which nothing else may be."
    )
    gitops_pull_request: bool = Field(
        False, description="Open a pull request on GitHub instead of pushing to the branch. Nothing is waited for."
    )
    gitops_token: SecretStr = Field(
        SecretStr(""),
        description="Token with which the repository is written to, over HTTPS. By default what git itself knows.",
    )
    gitops_wait: bool = Field(
        False,
        description="The cluster that the repository is applied to can be reached: bring the version up, ask it, and"
        " only then let it have the requests, each by a commit that is waited for.",
    )
