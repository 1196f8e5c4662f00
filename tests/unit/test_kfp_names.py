"""Names in KFP, and pipelines as they are adapted for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from given import kfp_inputs
from mlops_actions.pipelines.kfp.names import LONGEST, pipeline_name, shortened, version_name
from mlops_actions.pipelines.kfp.publishing import adapted
from mlops_actions.pipelines.kfp.settings import KfpSettings
from mlops_actions.pipelines.spec import Pipeline


@pytest.mark.parametrize(
    ("given", "expected"),
    [("flight-delays", "flight-delays"), ("Flight_Delays", "flight-delays"), ("-a--b-", "a-b"), ("a.b/c d", "a-b-c-d")],
)
def test_pipelines_have_names_of_kubernetes(given: str, expected: str) -> None:
    assert pipeline_name(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [("v1.2.3", "v1.2.3"), ("release/V1.2", "release-v1.2"), ("1.-2..3.", "1.2.3"), ("0123456789ab", "0123456789ab")],
)
def test_versions_keep_their_dots(given: str, expected: str) -> None:
    assert version_name(given) == expected


def test_a_name_of_no_allowed_character_is_still_a_name() -> None:
    assert re.fullmatch(r"p-[0-9a-f]{8}", pipeline_name("模型"))
    assert pipeline_name("模型") != pipeline_name("管道")


def test_long_names_stay_apart() -> None:
    one, other = (pipeline_name("x" * 200 + end) for end in "ab")
    assert one != other
    assert len(one) == len(other) == LONGEST
    assert shortened("short") == "short"


def _pipeline(container: dict[str, Any]) -> Pipeline:
    spec = {
        "pipelineInfo": {"name": "p"},
        "root": {"dag": {"tasks": {"a": {"componentRef": {"name": "comp"}, "cachingOptions": {"enableCache": True}}}}},
        "components": {"comp": {"executorLabel": "exec"}},
        "deploymentSpec": {"executors": {"exec": {"container": container}, "in": {"importer": {}}}},
    }
    return Pipeline(Path("p.py"), spec)


def test_only_the_image_that_nobody_named_is_replaced() -> None:
    settings = KfpSettings(kfp_inputs("http://h"), image="ours@sha256:1")
    images = {}
    for image in ("python:3.11", "python:3.12", "user/image"):
        made = adapted(_pipeline({"image": image}), settings, cache=True)
        images[image] = made.executors["exec"]["container"]["image"]
    assert images == {"python:3.11": "ours@sha256:1", "python:3.12": "python:3.12", "user/image": "user/image"}


def test_variables_and_secret_leave_alone_what_the_component_sets_itself() -> None:
    settings = KfpSettings(kfp_inputs("http://h", store_secret="keys"), variables={"A": "ours", "B": "b"})
    own = [{"name": "A", "value": "theirs"}, {"name": "AWS_ACCESS_KEY_ID", "value": "x"}]
    made = adapted(_pipeline({"image": "i", "env": own}), settings, cache=True)
    assert made.executors["exec"]["container"]["env"] == [*own, {"name": "B", "value": "b"}]
    (secret,) = made.platforms["kubernetes"]["deploymentSpec"]["executors"]["exec"]["secretAsEnv"]
    assert [pair["envVar"] for pair in secret["keyToEnv"]] == ["AWS_SECRET_ACCESS_KEY"]


def test_the_given_pipeline_is_left_as_it_was() -> None:
    pipeline = _pipeline({"image": "python:3.11"})
    before = pipeline.digest
    made = adapted(pipeline, KfpSettings(kfp_inputs("http://h"), image="i", variables={"A": "a"}), cache=False)
    assert "cachingOptions" not in made.spec["root"]["dag"]["tasks"]["a"]
    assert Pipeline(pipeline.file, pipeline.spec).digest == before != made.digest
