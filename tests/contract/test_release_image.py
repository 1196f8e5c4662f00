"""The image of a release, in a real registry: what is in it, equal bytes for equal input, and what is not done twice.

Nothing is run in it here; tests/cluster/test_deploy_kubernetes.py starts it on a node.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import docker_engine as docker
from mlops_actions import environments
from mlops_actions.errors import BadInput, MlopsError
from mlops_actions.http.faults import HttpError
from mlops_actions.images.layers import Image, packed, push, read_image, with_layer
from mlops_actions.images.login import Credentials
from mlops_actions.images.names import parse_name
from mlops_actions.images.registry import Registry
from mlops_actions.serving.cluster.image import PACKAGES_LABEL, Images, given_image
from mlops_actions.serving.engine import Release
from mlops_actions.serving.served import read_release

pytestmark = pytest.mark.skipif(bool(docker.missing_registry()), reason=docker.missing_registry() or "-")
LOCK = "click==8.1.8\nMarkupSafe==3.0.2\n"
CODE = "from helper import OFFSET\nclass Own: ...\n"


@dataclass
class World:
    """A registry, a base image in it for two machines, and how images are made."""

    address: str
    folder: Path
    said: list[str] = field(default_factory=list)

    def images(self, name: str = "models", **settings: Any) -> Images:
        usual = {"base": f"{self.address}/base:1", "architecture": "amd64", "credentials": None}
        cache = environments.cache_folder()
        repository = f"{self.address}/{name}"
        return Images(repository, **{**usual, **settings}, cache=cache, environ=dict(os.environ), say=self.said.append)

    def registry(self, name: str, credentials: Credentials | None = None) -> Registry:
        place = parse_name(f"{self.address}/{name}")
        return Registry(place, credentials, {}, insecure=True, say=self.said.append)

    def read(self, reference: str, architecture: str = "amd64") -> Image:
        """An image by the reference that pods get."""
        name, _, digest = reference.partition("@")
        place = parse_name(name)
        found = read_image(self.registry(name.partition("/")[2]), place, digest, f"linux/{architecture}")
        assert found and found.digest == digest
        return found

    def files(self, image: Image, layer: int) -> dict[str, tarfile.TarInfo]:
        """What is in a layer."""
        blob = io.BytesIO()
        self.registry(image.place.path).download(str(image.layers[layer]["digest"]), blob)
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob.getvalue()))) as tar:
            tar.extractall(self.folder / "unpacked", filter="data")
            return {one.name: one for one in tar.getmembers()}

    def release(self, version: int = 1, **values: Any) -> Release:
        root = self.folder / "code"
        root.mkdir(exist_ok=True)
        (root / "own.py").write_text(CODE)
        (root / "helper.py").write_text("OFFSET = 3\n")
        (root / "unrelated.py").write_text("")
        model = self.folder / "model.txt"
        model.write_text("3")
        made = Release(
            name="adder",
            version=version,
            digest=f"sha256:{version:064x}",
            kind="python",
            model=model,
            predict="own.py:Own",
            root=root,
            code="sha256:1",
            example=[],
            lock=LOCK,
            python=Path(sys.executable),
        )
        return replace(made, **values)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with docker.registry() as found:
        yield found


@pytest.fixture
def world(address: str, tmp_path: Path) -> World:
    made = World(address, tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "os-release").write_text("ID=test\n")
    place, registry = parse_name(f"{address}/base"), made.registry("base")
    for tag, architecture in (("1", "amd64"), ("arm", "arm64")):
        rootfs = {"type": "layers", "diff_ids": []}
        empty = Image(place, "", {"os": "linux", "architecture": architecture, "rootfs": rootfs}, ())
        with packed(tmp_path / "base", "etc") as layer:
            image = with_layer(empty, layer, "test", {"Env": ["PATH=/usr/bin", "LANG=C"]}, {"of": "base"})
            push(registry, place, image, tag, {layer.digest: layer}, registry)
    return made


def test_image_has_the_packages_the_server_the_model_and_the_code_that_it_needs(world: World) -> None:
    image = world.read(world.images().make(world.release()))
    started = image.config["config"]
    assert started["User"] == "65532:65532"
    assert started["Entrypoint"] == ["python3", "-m", "mlops_actions.serving.server", "/opt/model"]
    assert {"PATH=/usr/bin", "LANG=C", "PYTHONPATH=/opt/packages:/opt/model/server"} <= set(started["Env"])
    assert image.labels["of"] == "base"
    assert image.labels[PACKAGES_LABEL] == "MarkupSafe==3.0.2 click==8.1.8"
    assert len(image.layers) == 3 == len(image.config["rootfs"]["diff_ids"])
    packages, own = world.files(image, 1), world.files(image, 2)
    assert {"opt/packages/click/__init__.py", "opt/packages/click-8.1.8.dist-info/METADATA"} <= set(packages)
    assert any("x86_64-linux-gnu" in name for name in packages)
    assert not [name for name in packages if name.startswith("opt/packages/bin")]
    assert {"opt/model/code/own.py", "opt/model/code/helper.py", "opt/model/model/model.txt"} <= set(own)
    assert "opt/model/server/mlops_actions/serving/server/__main__.py" in own
    assert not [name for name in own if "unrelated" in name or "/actions/" in name or "tests" in name]
    served = read_release(world.folder / "unpacked" / "opt" / "model")
    assert served.id == world.release().id and served.model.read_text() == "3" and (served.root / "own.py").exists()
    every = [*packages.values(), *own.values()]
    assert {(one.uid, one.gid, one.mtime, one.uname) for one in every} == {(0, 0, 0, "")}
    assert {one.mode for one in every} <= {0o755, 0o644}


def test_versions_of_one_lock_share_the_layer_of_packages_which_is_made_once(world: World) -> None:
    first = world.read(world.images("shared").make(world.release(1)))
    assert [text for text in world.said if "Installing" in text]
    world.said.clear()
    second = world.read(world.images("shared").make(world.release(2)))
    assert not [text for text in world.said if "Installing" in text]
    assert first.layers[:2] == second.layers[:2] and first.layers[2] != second.layers[2]
    other = world.read(world.images("shared").make(world.release(2, lock="click==8.1.8\n")))
    assert other.layers[0] == first.layers[0] and other.layers[1] != first.layers[1]


def test_equal_input_gives_the_same_digest_anywhere(world: World) -> None:
    one = world.images("here").make(world.release()).partition("@")[2]
    for path in (world.folder / "code").rglob("*.py"):
        os.utime(path, (1, 1))
    assert world.images("there").make(world.release()).partition("@")[2] == one


def test_an_image_that_is_there_is_taken_and_is_named_by_its_tag_before(world: World) -> None:
    images = world.images("found")
    before = images.find(world.release())
    assert before.startswith(f"{world.address}/found:v1-")
    made = images.make(world.release())
    assert images.find(world.release()) == made == images.make(world.release())
    assert images.find(world.release(2)) != made


def test_wheels_are_those_of_the_clusters_machines(world: World) -> None:
    image = world.read(
        world.images("arm", architecture="arm64", base=f"{world.address}/base:arm").make(world.release()), "arm64"
    )
    names = world.files(image, 1)
    assert any("aarch64-linux-gnu" in name for name in names) and not any("x86_64" in name for name in names)


@pytest.mark.parametrize(
    ("settings", "lock", "what"),
    [
        ({}, "docopt==0.6.2\n", r"docopt.*has no wheel|no wheel .*docopt"),
        ({}, "own @ file:///home/me/own\n", r"own @ file.* is not a package of an index"),
        ({"base": "{address}/base:2"}, LOCK, r"no image \S+/base:2"),
        ({"architecture": "arm64"}, LOCK, r"base:1 is not for linux/arm64.*It is for linux/amd64"),
        ({"repository": ""}, LOCK, r"No repository is named.*image-repository"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(
    world: World, settings: dict[str, str], lock: str, what: str
) -> None:
    given = {name: value.format(address=world.address) for name, value in settings.items()}
    images = replace(world.images("refused"), **given)  # type: ignore[arg-type]
    with pytest.raises(BadInput) as caught:
        images.make(world.release(lock=lock))
    assert re.search(what, str(caught.value)), str(caught.value)


def test_packages_of_another_image_that_differ_are_told(world: World) -> None:
    made = world.images("given").make(world.release())
    tag = f"{world.address}/given:{world.images('given')._tag(world.release())}"
    here = dict(os.environ)
    assert given_image(tag, world.release(), "amd64", None, here, world.said.append) == made
    world.said.clear()
    changed = world.release(lock="click==8.1.7\nMarkupSafe==3.0.2\nidna==3.10\n")
    assert given_image(tag, changed, "amd64", None, here, world.said.append) == made
    assert "click 8.1.8 instead of 8.1.7" in world.said[0] and "idna missing instead of 3.10" in world.said[0]
    world.said.clear()
    base = f"{world.address}/base:1"
    assert given_image(base, world.release(), "amd64", None, here, world.said.append).startswith(f"{base[:-2]}@sha256:")
    assert "Cannot see whether the packages" in world.said[0]


def test_the_registrys_login_is_used_and_a_wrong_one_is_told(world: World) -> None:
    with docker.registry(login=True) as closed:
        images = replace(
            world.images(), repository=f"{closed}/models", credentials=Credentials(docker.USER, docker.PASSWORD)
        )
        assert images.make(world.release()).startswith(f"{closed}/models@sha256:")
        wrong = replace(images, credentials=Credentials(docker.USER, "wrong"))
        with pytest.raises(HttpError, match=f"{closed} refused the login") as caught:
            wrong.make(world.release())
        assert caught.value.exit_code == 3


def test_a_registry_that_is_not_there_is_one_error(world: World) -> None:
    with pytest.raises(MlopsError, match=r"Cannot reach .*127.0.0.1:1") as caught:
        replace(world.images(), repository="127.0.0.1:1/models").make(world.release())
    assert caught.value.exit_code == 3


def test_what_is_pushed_is_as_the_specification_says(world: World) -> None:
    reference = world.images("spec").make(world.release())
    manifest = world.registry("spec").manifest(reference.partition("@")[2])
    assert manifest and manifest.media_type == "application/vnd.oci.image.manifest.v1+json"
    content = json.loads(manifest.body)
    assert content["schemaVersion"] == 2 and content["mediaType"] == manifest.media_type
    assert {one["mediaType"] for one in content["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert content["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
