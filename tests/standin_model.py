"""Images with a model server of a few lines: it answers as this project's does, and goes wrong where a test wants it.

An image is a Python image and a layer with the server; nothing is built, and no package is installed.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from mlops_actions.images.layers import Image, Layer, packed, push, read_image, with_layer
from mlops_actions.images.names import ImageName, parse_name
from mlops_actions.images.registry import Registry
from mlops_actions.serving.engine import Release

Behaviour = Literal["serves", "crashes", "needs memory", "never ready"]
SERVER = """\
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
about = json.load(open(sys.argv[1] + "/about.json"))
if about["behaviour"] == "crashes":
    sys.exit("boom: the model cannot be loaded")
if about["behaviour"] == "needs memory":
    hoard = bytearray(1 << 30)
    hoard[::4096] = b"x" * len(hoard[::4096])
class Handler(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        ready = about["behaviour"] != "never ready"
        status = 200 if ready or self.path.endswith("/live") else 503
        body = {"name": about["name"], "versions": [about["version"]], "model_version": about["version"],
                "properties": {"digest": about["digest"], "release": about["release"]},
                "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}],
                "outputs": [{"name": "predict", "datatype": "FP64", "shape": [1], "data": [float(about["version"])]}]}
        data = json.dumps(body).encode()
        self.send_response(status)
        for name in ("release", "version", "digest"):
            self.send_header("mlops-" + name, about[name])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    do_GET = do_POST = answer
    def log_message(self, *arguments):
        pass
ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def release(name: str, version: int, digest: str = "") -> Release:
    """A release that a stand-in serves; without golden rows."""
    return Release(
        name=name, version=version, digest=digest or f"sha256:{version:064d}", kind="python", model=Path("model"),
        predict="", root=Path(), code="", example=[], lock="", python=Path("python"),
    )  # fmt: skip


def about(release: Release, behaviour: Behaviour = "serves") -> dict[str, str]:
    """What the server is told, beside it in `about.json`."""
    return {
        "name": release.name,
        "version": str(release.version),
        "digest": release.digest,
        "release": release.id,
        "behaviour": behaviour,
    }


def image(release: Release, behaviour: Behaviour = "serves") -> str:
    """The image that serves a release, in the registry that REGISTRY names, by digest."""
    command = ["python3", "/opt/standin/server.py", "/opt/standin"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "server.py").write_text(SERVER)
        (Path(folder) / "about.json").write_text(json.dumps(about(release, behaviour)))
        return python_with(Path(folder), "standin", {"Entrypoint": command, "Cmd": [], "User": "65532:65532"})


def python_with(folder: Path, name: str, started: Mapping[str, Any]) -> str:
    """The Python image and the files of a folder at `/opt/<name>`, in the registry that REGISTRY names, by digest."""
    place = parse_name(f"{os.environ['REGISTRY']}/test/{name}")
    with packed(folder, f"opt/{name}") as layer:
        made = with_layer(python_image(), layer, "a test", started, {})
        registry = _registry(place)
        pushed = push(registry, place, made, layer.digest.partition(":")[2][:20], {layer.digest: layer}, registry)
    return f"{place.name}@{pushed.digest}"


def modelcar(folder: Path, reference: str) -> None:
    """An image with a shell, and the files of a folder at `/models`, as KServe takes them by `oci://`."""
    name, _, tag = reference.rpartition(":")
    place = parse_name(name)
    registry = _registry(place)
    with packed(folder, "models") as layer:
        made = with_layer(python_image(), layer, "a model", {"Entrypoint": [], "Cmd": []}, {})
        push(registry, place, made, tag, {layer.digest: layer}, registry)


@cache
def python_image() -> Image:
    """A Python image in the registry that REGISTRY names: the one that is there, else it is put there.

    PYTHON_IMAGE names it; where it is only on the nodes, the file that it was loaded from lies beside the kubeconfig.
    """
    place = parse_name(f"{os.environ['REGISTRY']}/test/python")
    registry = _registry(place)
    if found := read_image(registry, place, "3.11", "linux/amd64"):
        return found
    kept = Path(os.environ["KUBECONFIG"]).parents[1] / "images" / "python-3.11.tar"
    if not kept.exists():
        name, _, tag = os.environ.get("PYTHON_IMAGE", "python:3.11-slim").partition(":")
        source = _registry(parse_name(name))
        base = read_image(source, parse_name(name), tag or "latest", "linux/amd64")
        assert base, f"there is no image {name}:{tag}"
        return push(registry, place, base, "3.11", {}, source)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(kept) as tar:
        tar.extractall(folder, filter="data")
        about = json.loads((Path(folder) / "manifest.json").read_text())[0]
        config = json.loads((Path(folder) / about["Config"]).read_text())
        layers = [_layer(Path(folder) / one, content) for one, content in zip(
            about["Layers"], config["rootfs"]["diff_ids"], strict=True)]  # fmt: skip
        media = "application/vnd.oci.image.layer.v1.tar"
        described = tuple({"mediaType": media, "digest": one.digest, "size": one.size} for one in layers)
        base = Image(place, "", config, described)
        return push(registry, place, base, "3.11", {one.digest: one for one in layers}, registry)


def _layer(file: Path, content: str) -> Layer:
    return Layer(file, content, file.stat().st_size, content)  # a tar that is not compressed is named by its content


def _registry(place: ImageName) -> Registry:
    return Registry(place, None, os.environ, insecure=True, say=lambda _: None)
