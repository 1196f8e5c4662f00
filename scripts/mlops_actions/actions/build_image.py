"""Build an image with BuildKit, label it, test it and push it; skip what has not changed.

The key of an image is the hash of its Dockerfile, the context without what `.dockerignore` names, the build
arguments, the target, the platforms and the base images. An image with that key, in the engine or in the registry,
is tagged instead of built; that of a pull request is found by this pull request alone. The command in `test` runs in
the image before anything is pushed. Credentials are given to Docker in a file that is removed afterwards, never on a
command line; after a 429 the request is repeated when the registry allows it.

Labels follow the OCI image specification; the time of creation is the commit's, so that equal sources give equal
labels.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..errors import BadInput
from ..inputs import Outputs, RegistryInputs
from ..runtime.action import Action
from ..runtime.result import Result
from ..values import Lines, Texts

if TYPE_CHECKING:
    from ..images.build import BuiltImage, ImageRequest
    from ..runtime.step import Step


class BuildImageInputs(RegistryInputs):
    """Inputs of `build-image`."""

    context: str = Field(
        ".", description="The build context: the folder sent to the builder, without what `.dockerignore` excludes."
    )
    dockerfile: str = Field("", description="The Dockerfile. By default `Dockerfile` in the context.")
    image: str = Field(
        "",
        description="Name of the image, such as `ghcr.io/owner/name`, without tag. By default the repository's or"
        " folder's name; to push it must be given.",
        examples=["ghcr.io/${{ github.repository }}"],
    )
    tags: Lines = Field(
        [],
        description="Tags. By default the commit's first 12 digits, the branch or `pr-<number>`, and `latest` on the"
        " default branch. A pull request pushes only those of its number or commit.",
    )
    platforms: Lines = Field(
        [],
        description="Platforms such as `linux/amd64, linux/arm64`; needs buildx. Several are built only when the image"
        " is pushed. By default the engine's own.",
    )
    build_args: Texts = Field(
        {}, description="Values of the Dockerfile's `ARG`s. They can be read from the image: no secrets."
    )
    target: str = Field("", description="The stage of the Dockerfile to build. By default the last one.")
    network: Literal["default", "host", "none"] = Field(
        "default", description="Network of `RUN` steps and of the test."
    )
    test: str = Field(
        "",
        description="A command that must succeed in the image before it is tagged and pushed: for its shell, or a JSON"
        " list of words.",
    )
    push: bool = Field(False, description="Push the image to its registry.", examples=["true"])
    if_unavailable: Literal["fail", "skip"] = Field(
        "fail", description="What to do when Docker cannot be reached or cannot build: fail, or go on without an image."
    )


class BuildImageOutputs(Outputs):
    """Outputs of `build-image`."""

    image: str = Field(default="", description="Name and first tag.")
    digest: str = Field(default="", description="The manifest's digest when pushed; else the image's ID in the engine.")
    image_ref: str = Field(
        default="", description="`name@digest` when pushed, which never means another image; else its ID."
    )
    tags: list[str] = Field(default=[], description="Every name and tag.")
    size: int = Field(default=0, description="Bytes: compressed when pushed, else unpacked in the engine.")
    key: str = Field(default="", description="Hash of all that determines the image's content.")
    skipped: bool = Field(default=False, description="Whether no image was built because Docker was unavailable.")


def run(inputs: BuildImageInputs, step: Step) -> Result[BuildImageOutputs]:
    """Build the image, or reuse one of the same content."""
    from ..images.build import EngineUnavailable, build_image

    request = _request(inputs, step)
    try:
        built = build_image(request, step.workspace.environ, step.console.say)
    except EngineUnavailable as error:
        if inputs.if_unavailable == "fail":
            raise
        why = f"{error.what}: {error.why}" if error.why else error.what
        step.console.notice(f"build-image is skipped. {why}")
        return Result(BuildImageOutputs(skipped=True), {"skipped": why}, reason=f"Skipped: {why}")
    return _result(request, built)


def _request(inputs: BuildImageInputs, step: Step) -> ImageRequest:
    from ..images import names
    from ..images.build import BuildContext, ImageRequest, commit_time
    from ..images.login import given_credentials

    context = step.workspace.path(inputs.context).resolve()
    dockerfile = step.workspace.path(inputs.dockerfile).resolve() if inputs.dockerfile else context / "Dockerfile"
    where = step.context
    image = names.parse_name(inputs.image or names.default_name(where.repository, step.workspace.root.name))
    login = given_credentials(inputs)
    push = inputs.push
    if push and where.outside and login is None:
        step.console.notice("GitHub gives no secrets to this pull request: the image is built and not pushed")
        push = False
    if push and not image.is_explicit:
        raise BadInput(
            "To push, `image` must name a registry or an owner",
            fix="Give `image`, for example `ghcr.io/owner/name`, or `push: false`",
        )
    default = "" if where.tag else where.default_branch
    tags = inputs.tags or names.default_tags(where.commit, where.branch, default, where.pull_request)
    if push and where.pull_request is not None:
        tags = _own_tags(tags, step)
    return ImageRequest(
        context=context,
        dockerfile=dockerfile,
        shown=os.path.relpath(dockerfile, step.workspace.root).replace(os.sep, "/"),
        image=image,
        tags=names.check_tags(tags),
        build_args=inputs.build_args,
        target=inputs.target,
        platforms=inputs.platforms,
        network=inputs.network,
        test=inputs.test,
        push=push,
        credentials=login,
        source=BuildContext(
            commit=where.commit,
            url=f"{where.server}/{where.repository}" if where.repository else "",
            made=commit_time(step.workspace.root),
        ),
        reuse=inputs.reuse,
        scope=f"pr-{where.pull_request}" if where.pull else "",
    )


def _own_tags(tags: list[str], step: Step) -> list[str]:
    """The tags that a pull request may push: what others use changes only once it is merged."""
    from ..images import names

    where = step.context
    assert where.pull_request is not None
    moving = names.moving_tags(tags, where.commit, where.pull_request)
    if not moving:
        return tags
    kept = [tag for tag in tags if tag not in moving]
    kept = kept or names.default_tags(where.commit, where.branch, where.default_branch, where.pull_request)
    step.console.notice(f"A pull request does not push {', '.join(moving)}: the tags are {', '.join(kept)}")
    return kept


def _result(request: ImageRequest, built: BuiltImage) -> Result[BuildImageOutputs]:
    name = request.image.name
    outputs = BuildImageOutputs(
        image=f"{name}:{request.tags[0]}",
        digest=built.digest,
        image_ref=f"{name}@{built.digest}" if request.push else built.digest,
        tags=[f"{name}:{tag}" for tag in request.tags],
        size=built.size,
        key=built.key,
    )
    done = "pushed" if request.push else "built"
    details = {
        "found": built.found,
        "steps": built.steps,
        "cached": built.cached,
        "platforms": list(built.platforms),
        "bases": dict(built.bases),
        "test": request.test,
        "pushed": request.push,
    }
    reason = f"{outputs.image} {done}" + (
        f", {built.cached} of {built.steps} steps from the cache" if built.steps else ""
    )
    if built.found:
        reason = f"{outputs.image}: the {built.found} already has this content"
    return Result(
        outputs,
        details,
        reason=reason,
        subject={"image": built.digest},
        key=built.key,
        reused=bool(built.found),
    )


ACTION = Action(
    "build-image",
    "images",
    BuildImageInputs,
    BuildImageOutputs,
    run,
    icon="package",
)
