"""An image put together of a base image and layers of files, in its registry: no builder, no engine, nothing is run.

The same input gives the same bytes: files in order, no dates, no owners. What the registry has is not sent again.

Specification: https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from ..errors import BadInput
from .names import ImageName
from .registry import Manifest, Registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LEVEL = 6  # of gzip: a higher one takes far longer and gives little


@dataclass(frozen=True)
class Layer:
    """A layer that is packed.

    Attributes:
        file: its compressed tar.
        digest, size: of that file.
        content: digest of the tar itself.
    """

    file: Path
    digest: str
    size: int
    content: str


@dataclass(frozen=True)
class Image:
    """An image of one platform: where its blobs are, what it is started with, and its layers' descriptions.

    Attributes:
        place: the image in whose place of the registry the layers are.
        digest: of its manifest.
        config: its configuration.
        layers: as in its manifest.
    """

    place: ImageName
    digest: str
    config: Mapping[str, Any]
    layers: tuple[Mapping[str, Any], ...]

    @property
    def labels(self) -> Mapping[str, str]:
        """Of its configuration."""
        return (self.config.get("config") or {}).get("Labels") or {}


def read_image(registry: Registry, place: ImageName, reference: str, platform: str) -> Image | None:
    """An image of a registry; None if there is none that may be seen.

    Args:
        registry: of the image's place.
        place: the image.
        reference: a tag or a digest.
        platform: such as `linux/amd64`.

    Raises:
        BadInput: it is not for that platform.
        HttpError: the registry cannot be reached or fails.
    """
    found = registry.manifest(reference)
    if found is None:
        return None
    content = json.loads(found.body)
    if "manifests" in content:
        one = next((one for one in content["manifests"] if _platform(one.get("platform") or {}) == platform), None)
        if one is None:
            names = sorted(_platform(one.get("platform") or {}) for one in content["manifests"])
            raise _other_platform(place, reference, platform, [name for name in names if "unknown" not in name])
        found = registry.manifest(str(one["digest"]))
        assert found is not None
        content = json.loads(found.body)
    config = json.loads(registry.read(content["config"]["digest"]))
    if _platform(config) != platform:
        raise _other_platform(place, reference, platform, [_platform(config)])
    return Image(place, found.digest, config, tuple(content["layers"]))


def _platform(found: Mapping[str, Any]) -> str:
    return f"{found.get('os')}/{found.get('architecture')}"


def _other_platform(place: ImageName, reference: str, platform: str, names: list[str]) -> BadInput:
    return BadInput(
        f"The image {place.name}:{reference} is not for {platform}",
        why=f"It is for {', '.join(names) or 'none'}",
        fix="Name another image, or another `platform`",
    )


@contextmanager
def packed(folder: Path, at: str) -> Iterator[Layer]:
    """The files below a folder as a layer, which is gone afterwards.

    Args:
        folder: whose files they are.
        at: where they will be in the image, such as `opt/model`.
    """
    with tempfile.TemporaryDirectory(prefix="layer-") as scratch:
        file, content = Path(scratch) / "layer.tar.gz", hashlib.sha256()
        with (
            file.open("wb") as raw,
            gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as zipped,
            tarfile.open(
                fileobj=cast(IO[bytes], _Hashed(zipped, content)), mode="w|", format=tarfile.PAX_FORMAT
            ) as tar,
        ):
            for name in _parents(at):
                tar.addfile(_entry(tarfile.TarInfo(name), 0o755, tarfile.DIRTYPE))
            for path in sorted(folder.rglob("*")):
                _add(tar, path, f"{at}/{path.relative_to(folder).as_posix()}")
        digest = hashlib.sha256()
        with file.open("rb") as read:
            while piece := read.read(1 << 20):
                digest.update(piece)
        yield Layer(file, f"sha256:{digest.hexdigest()}", file.stat().st_size, f"sha256:{content.hexdigest()}")


def with_layer(base: Image, layer: Layer, by: str, settings: Mapping[str, Any], labels: Mapping[str, str]) -> Image:
    """An image with one more layer; its `digest` is "" until it is pushed.

    Args:
        base: below the layer.
        layer: of files.
        by: what made it, for the image's history.
        settings: `Env`, `Cmd`, `User` and so on, in the place of the base's; variables of `Env` are added to it.
        labels: that are added.
    """
    config = json.loads(json.dumps(base.config))
    started = config.setdefault("config", {})
    own = {line.partition("=")[0]: line for line in [*(started.get("Env") or []), *settings.get("Env", [])]}
    started.update(settings)
    started["Env"] = list(own.values())
    started["Labels"] = dict(sorted({**base.labels, **labels}.items()))
    config["rootfs"]["diff_ids"] = [*config["rootfs"]["diff_ids"], layer.content]
    config["history"] = [*(config.get("history") or []), {"created": config.get("created"), "created_by": by}]
    described = {"mediaType": f"{_LAYER}+gzip", "digest": layer.digest, "size": layer.size}
    return replace(base, digest="", config=config, layers=(*base.layers, described))


def push(
    registry: Registry, place: ImageName, image: Image, tag: str, layers: Mapping[str, Layer], source: Registry
) -> Image:
    """Write an image under a tag: its layers, its configuration, and last its manifest.

    Args:
        registry: of the image's place.
        place: where it is written.
        image: what.
        tag: of it.
        layers: those that are on this disk, by digest.
        source: where the others are.

    Returns:
        The image as it is there.

    Raises:
        HttpError: the registry refuses it or fails.
    """
    for described in image.layers:
        digest = str(described["digest"])
        registry.take(digest, image.place, lambda digest=digest: _opened(digest, layers, source))  # type: ignore[misc]
    config = _bytes(image.config)
    name = f"sha256:{hashlib.sha256(config).hexdigest()}"
    registry.take(name, place, lambda: io.BytesIO(config))
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": name, "size": len(config)},
        "layers": [{**one, "mediaType": _oci(str(one["mediaType"]))} for one in image.layers],
    }
    body = _bytes(content)
    registry.tag(Manifest(f"sha256:{hashlib.sha256(body).hexdigest()}", MANIFEST, body), tag)
    return replace(image, place=place, digest=f"sha256:{hashlib.sha256(body).hexdigest()}")


def _opened(digest: str, layers: Mapping[str, Layer], source: Registry) -> IO[bytes]:
    if digest in layers:
        return layers[digest].file.open("rb")
    file = tempfile.TemporaryFile(prefix="layer-")  # noqa: SIM115 - it is closed by who sends it
    source.download(digest, file)
    return file


def _oci(media_type: str) -> str:
    """The OCI's name of a layer's type, for one that may be Docker's."""
    return f"{_LAYER}+gzip" if media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip" else media_type


def _bytes(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _parents(at: str) -> list[str]:
    parts = at.split("/")
    return ["/".join(parts[: number + 1]) for number in range(len(parts))]


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    if path.is_symlink():
        info.linkname = str(path.readlink())
        tar.addfile(_entry(info, 0o777, tarfile.SYMTYPE))
    elif path.is_dir():
        tar.addfile(_entry(info, 0o755, tarfile.DIRTYPE))
    else:
        about = path.stat()
        info.size = about.st_size
        with path.open("rb") as file:
            tar.addfile(_entry(info, 0o755 if about.st_mode & 0o100 else 0o644, tarfile.REGTYPE), file)


def _entry(info: tarfile.TarInfo, mode: int, kind: bytes) -> tarfile.TarInfo:
    info.type, info.mode = kind, mode  # all else is nobody's, and of no date
    return info


class _Hashed:
    """A file to write to that hashes what is written."""

    def __init__(self, file: gzip.GzipFile, digest: hashlib._Hash) -> None:
        self._file, self._digest = file, digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)
