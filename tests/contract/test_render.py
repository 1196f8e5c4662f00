"""`mlops render`: what would be applied, printed and not applied; no cluster is asked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest
import yaml

from conftest import MLOPS
from mlops_actions.registry.registering import Registration, register
from mlops_actions.registry.registry import Registry
from mlops_actions.stores.store import Store

IMAGE = "registry.test/models@sha256:" + "0" * 64
OWN = """
class Adder:
    def load(self, path):
        self.offset = int(path.read_text())

    def predict(self, rows):
        return [row["hour"] + self.offset for row in rows]
"""
Render = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Calls the command for a model of two versions."""
    folder = tmp_path_factory.mktemp("render")
    registry = Registry(Store((folder / "store").as_uri()))
    for version in (1, 2):
        (folder / "offset.json").write_text(str(version))
        register(registry, Registration("flight.delays", folder / "offset.json"))
    (folder / "own.py").write_text(OWN)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "INPUT_", "MLOPS_"))}
    kept |= {"MLOPS_CACHE": os.environ["MLOPS_CACHE"]} if "MLOPS_CACHE" in os.environ else {}
    kept |= {"MLOPS_STORE": (folder / "store").as_uri(), "MLOPS_HOME": str(folder / "home"), "KUBECONFIG": "/nowhere"}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(MLOPS), "render", "flight.delays", "--predict", "own.py:Adder", *arguments]
        return subprocess.run(command, env=kept, cwd=folder, text=True, capture_output=True, check=False)

    return call


def test_the_objects_are_printed_in_the_order_in_which_they_are_applied(render: Render) -> None:
    given = ("--engine", "kubernetes", "--image", IMAGE, "--version", "2", "--namespace", "team-a")
    done = render(*given, "--replicas", "2", "--network-policy", "--gateway", "infra/public")
    assert done.returncode == 0, done.stderr
    found = list(yaml.safe_load_all(done.stdout))
    kinds = ["NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget", "Service", "HTTPRoute"]
    assert [one["kind"] for one in found] == kinds
    assert {one["metadata"]["namespace"] for one in found} == {"team-a"}
    assert found[2]["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert found[2]["metadata"]["annotations"]["mlops-actions.io/version"] == "2"
    assert found[4]["spec"]["selector"].items() <= found[2]["spec"]["template"]["metadata"]["labels"].items()
    assert render(*given, "--replicas", "2", "--network-policy", "--gateway", "infra/public").stdout == done.stdout


def test_an_engine_without_manifests_says_so(render: Render) -> None:
    done = render("--version", "1")
    assert done.returncode == 2 and done.stdout == ""
    assert "The engine local serves without manifests" in done.stderr
    assert "Set `engine` to one of git, kserve, kubernetes" in done.stderr


def test_a_version_that_does_not_exist_is_told(render: Render) -> None:
    done = render("--engine", "kubernetes", "--image", IMAGE, "--version", "7")
    assert done.returncode == 2 and done.stdout == ""
    assert "7" in done.stderr
