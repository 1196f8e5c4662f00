"""Objects by URI: one interface for `file://`, `s3://`, `gs://` and `az://`, over obstore.

Three ways to write, which every store honours: `put` (last writer wins), `create` (only if absent, If-None-Match) and
`replace` (only if unchanged since it was read, If-Match). The object store crate has no compare-and-swap for files,
so for `file://` it is made here with a lock file beside the object.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from ..console import hidden
from ..environments import FULL
from ..errors import BadInput, MlopsError, RemoteFailed
from ..text import without_login
from ..values import check_store
from .digests import CHUNK, digest_of, file_digest
from .identity import Lent

LONGEST = timedelta(hours=6)
"""For one request as a whole, which obstore wants a limit for."""
CONNECTING = 3.0
"""Seconds for one connection; with `RETRYING` it is known within ten seconds that nothing is there."""
RETRYING = timedelta(seconds=6)
"""After this time since the first request no other one is tried."""
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Variables with the keys of an S3 store."""
_SETTINGS = {"s3": "aws_", "gs": "google_", "az": "azure_"}
"""How the names of a scheme's settings begin."""
_KEYS = {
    "s3": " and ".join(STORE_KEYS),
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_METADATA = ("169.254.169.254", "metadata.google.internal")
"""Servers that machines of a cloud have, for their identity."""
EMPTY = ".empty-folder"
"""Name of the object that stands for a folder without files, which stores of objects do not have."""
_LONGEST_NAME = 250
"""Bytes in the name of a file: file systems have 255, and obstore appends `#` and a number while it writes one."""


@dataclass(frozen=True)
class StoreOptions:
    """How to reach stores.

    Attributes:
        endpoint: URL of an S3 server that is not AWS.
        region: of S3.
        settings: of all schemes, under obstore's own names (`aws_access_key_id`, `azure_endpoint`, …).
        timeout: seconds to wait for an answer, or for the next bytes of one. Large objects may take longer.
        proxy: what the variables of this process name, which obstore takes by itself: for messages.
        lent: by scheme the keys that live for a while, in the place of those in `settings`; asked for when a store is
            opened.
    """

    endpoint: str = ""
    region: str = "us-east-1"
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 30.0
    proxy: str = ""
    lent: Mapping[str, Lent] = field(default_factory=dict, repr=False)

    def variables(self) -> dict[str, str]:
        """Variables with keys for code that uses the store itself, where they are lent to us; they end when ours do."""
        return self.lent["s3"].keys().variables() if "s3" in self.lent else {}


READERS = 32
"""Objects that are read, and folders that are listed, at the same time."""


@dataclass(frozen=True)
class Entry:
    """An object in a listing: its path in the store, its size in bytes, and what changes when its content does.

    `modified` is when it was written, by the store's clock.
    """

    path: str
    size: int
    version: str
    modified: datetime


class Store:
    """The objects under one URI. Paths are relative to it, with `/` between parts.

    Args:
        url: `scheme://…`, or a folder.
        options: how to reach it.
        hide: takes what must not be seen out of a text; for logs and results.

    Raises (all methods): BadInput when there are no keys for it; RemoteFailed when it cannot be reached, refuses the
    keys, has no such bucket or no space; FileNotFoundError when an object that is read is absent.
    """

    def __init__(
        self, url: str, options: StoreOptions | None = None, hide: Callable[[str], str] = lambda text: text
    ) -> None:
        self.url = _normal(url)
        self._hide = hide
        self._options = options or StoreOptions()
        self._scheme = self.url.split("://")[0]
        self._lent = self._options.lent.get(self._scheme)
        self._root = file_path(self.url) if self._scheme == "file" else None
        self._objects = self._open()

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def uri(self, path: str) -> str:
        """The full URI of an object."""
        return f"{self.url}/{path}"

    def get(self, path: str) -> bytes:
        """The object's bytes."""
        return self.get_tagged(path)[0]

    def get_tagged(self, path: str) -> tuple[bytes, str]:
        """The object's bytes, and the tag that `replace` wants."""
        with self._explain(path):
            found = obstore.get(self._objects, path)
            data = bytes(found.bytes())
            tag = found.meta.get("e_tag")
        return data, _content_tag(data) if self._root or not tag else tag

    def digest(self, path: str) -> str:
        """`sha256:<hex>` of the object's bytes, of which a part at a time is in memory."""
        return digest_of(self._chunks(path))

    def get_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of many objects, read at the same time; those that are absent are left out."""

        def read(path: str) -> bytes | None:
            try:
                return self.get(path)
            except FileNotFoundError:
                return None

        wanted = list(dict.fromkeys(paths))
        with ThreadPoolExecutor(READERS) as readers:  # a folder is read faster by one
            found = map(read, wanted) if self._root else readers.map(read, wanted)
            return {path: data for path, data in zip(wanted, found) if data is not None}

    def get_json(self, path: str) -> Any:
        """The object as JSON."""
        return json.loads(self.get(path))

    def exists(self, path: str) -> bool:
        """Whether there is such an object."""
        try:
            with self._explain(path):
                obstore.head(self._objects, path)
        except FileNotFoundError:
            return False
        return True

    def put(self, path: str, data: bytes) -> None:
        """Write the object, whatever was there."""
        with self._explain(path):
            obstore.put(self._objects, path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write the object unless it exists; False if it does."""
        try:
            with self._explain(path):
                obstore.put(self._objects, path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, path: str, data: bytes, tag: str) -> bool:
        """Write the object if it still is the one that had `tag` when it was read; False if it changed or is gone."""
        if self._root:
            from filelock import FileLock

            with FileLock(_lock_file(self._root, path)):
                try:
                    if self.get_tagged(path)[1] != tag:
                        return False
                except FileNotFoundError:
                    return False
                self.put(path, data)
                return True
        try:
            with self._explain(path):
                obstore.put(self._objects, path, data, mode={"e_tag": tag}, use_multipart=False)
        except _Changed:
            return False
        return True

    def put_json(self, path: str, value: object) -> None:
        """Write the value as indented JSON."""
        self.put(path, to_json(value))

    def put_reusable(self, path: str, value: object) -> bool:
        """Write a result that is taken for the work itself later on.

        Returns: whether it was written; one that holds what must not be seen is not, as it would come back changed.
        """
        if hidden(value, self._hide) != value:
            return False
        self.put(path, to_json(value))
        return True

    def put_file(self, source: Path, path: str) -> str:
        """Upload a file, or what a folder holds under `path`; the URI. Empty folders come back as such.

        Raises:
            BadInput: something in the folder cannot be kept; see `files_in`.
        """
        if source.is_dir():
            for item in files_in(source):
                inside = f"{path}/{item.relative_to(source).as_posix()}"
                if item.is_dir():
                    self.put(f"{inside}/{EMPTY}", b"")
                else:
                    self.put_file(item, inside)
            return self.uri(path)
        with self._explain(path):
            obstore.put(self._objects, path, source)
        return self.uri(path)

    def put_log(self, source: Path, path: str) -> str:
        """Upload what a program printed, without the values that must not be seen; the URI."""
        self.put(path, self._hide(source.read_text(encoding="utf-8", errors="replace")).encode())
        return self.uri(path)

    def put_blob(self, source: Path | bytes) -> str:
        """Keep a file, or bytes, at `blobs/sha256/<hex>`; the digest, `sha256:<hex>`.

        What is there already is read, and written again as a whole where it is damaged.
        """
        digest = digest_of([source]) if isinstance(source, bytes) else file_digest(source)
        path = blob_path(digest)
        with suppress(FileNotFoundError):
            if self.digest(path) == digest:
                return digest
        if isinstance(source, bytes):
            self.put(path, source)
        else:
            self.put_file(source, path)
        return digest

    def get_file(self, path: str, target: Path) -> Path:
        """Download an object, or all objects under `path/`, to `target`; never leaves a part of a file there."""
        with _room(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
        part = Path(name)
        try:
            with _room(target.parent), os.fdopen(handle, "wb") as file:
                file.writelines(self._chunks(path))
            part.replace(target)
        except FileNotFoundError:
            part.unlink(missing_ok=True)
            entries = list(self.list(path + "/"))
            if not entries:
                raise
            for entry in entries:
                inside = target / entry.path[len(path) + 1 :]
                if inside.name == EMPTY:
                    inside.parent.mkdir(parents=True, exist_ok=True)
                else:
                    self.get_file(entry.path, inside)
        finally:
            part.unlink(missing_ok=True)
        return target

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """The objects under a prefix that ends at a `/`, in order of their paths."""
        entries: list[Entry] = []
        with self._explain(prefix):
            for batch in obstore.list(self._objects, prefix=prefix.rstrip("/") or None):
                entries += map(_entry, batch)
        yield from sorted(entries, key=lambda entry: entry.path)

    def list_all(self, prefixes: Iterable[str]) -> Sequence[Entry]:
        """The objects under each of many prefixes, listed at the same time."""
        with ThreadPoolExecutor(READERS) as readers:
            return [entry for found in readers.map(lambda prefix: [*self.list(prefix)], prefixes) for entry in found]

    def folders(self, prefix: str) -> Sequence[str]:
        """The paths of the folders right below a prefix that ends at a `/`, each ending so, too; in order."""
        with self._explain(prefix):
            found = obstore.list_with_delimiter(self._objects, prefix=prefix.rstrip("/") or None)
        return sorted(f"{path.rstrip('/')}/" for path in found["common_prefixes"])

    def entries(self, path: str) -> Sequence[Entry]:
        """The object at a path, or those under it; none when nothing is there."""
        try:
            with self._explain(path):
                meta = obstore.head(self._objects, path)
        except FileNotFoundError:
            return [*self.list(f"{path}/")]
        return [_entry(meta)]

    def delete(self, path: str) -> None:
        """Delete an object; nothing happens when it is absent."""
        try:
            with self._explain(path):
                obstore.delete(self._objects, path)
        except FileNotFoundError:
            pass

    def _chunks(self, path: str) -> Iterator[bytes]:
        """An object's bytes, a part at a time. An error of who takes them is not the store's."""
        with self._explain(path):
            yield from obstore.get(self._objects, path).stream(min_chunk_size=CHUNK)

    def _open(self) -> Any:
        if self._root:
            try:
                self._root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RemoteFailed(
                    f"Cannot create the store {self.url}", why=str(error), fix="Choose a folder you can write to"
                ) from error
            return from_url(self.url)
        options = self._options
        own = _SETTINGS.get(self._scheme, "-")  # obstore refuses those of other schemes
        config: dict[str, Any] = {name: value for name, value in options.settings.items() if name.startswith(own)}
        client: dict[str, Any] = {
            "timeout": LONGEST,
            "read_timeout": timedelta(seconds=options.timeout),
            "connect_timeout": timedelta(seconds=min(CONNECTING, options.timeout)),
        }
        if self._scheme == "s3":
            config["aws_region"] = options.region
            if options.endpoint:
                config["aws_endpoint"] = options.endpoint
                config["aws_virtual_hosted_style_request"] = "false"
        if any(str(value).startswith("http://") for value in config.values()):
            client["allow_http"] = True
        more: dict[str, Any] = {"retry_config": {"max_retries": 4, "retry_timeout": RETRYING}}
        if self._lent:
            self._lent.keys()  # a failure of theirs is told as what it is
            more["credential_provider"] = self._lent
        return from_url(self.url, config=cast(Any, config), client_options=cast(Any, client), **more)

    @contextmanager
    def _explain(self, path: str) -> Iterator[None]:
        """Turn obstore's exceptions into ours."""
        try:
            yield
        except (NotFoundError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error) or "bucket does not exist" in str(error):
                raise self._no_bucket() from error
            raise FileNotFoundError(self.uri(path)) from error
        except (AlreadyExistsError, FileExistsError) as error:
            raise FileExistsError(self.uri(path)) from error
        except PreconditionError as error:
            raise _Changed(self.uri(path)) from error
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            keys = f"{_KEYS['s3']}, and the rights that the key has"
            keys = "the rights of the role or profile" if self._lent else keys
            raise RemoteFailed(
                f"Cannot use {self._where()}: access denied",
                why=_reason(error),
                fix=f"Check {keys if self._scheme == 's3' else 'the rights to it'}{self._or_proxy()}",
            ) from error
        except MlopsError:
            raise
        except Exception as error:
            if self._lent and self._lent.failure:  # which obstore shows as text of its own
                raise self._lent.failure from error
            if not isinstance(error, OSError | obstore.exceptions.BaseError):
                raise
            raise self._failure(error) from error

    def _where(self) -> str:
        """The store in a message, with what is between."""
        from ..http.faults import shown  # only of what fails

        through = f" through the proxy {shown(self._options.proxy)}" if self._options.proxy and not self._root else ""
        return f"the store {self.url}" + (f" at {self._options.endpoint}" if self._options.endpoint else "") + through

    def _or_proxy(self) -> str:
        return ", and HTTPS_PROXY and NO_PROXY" if self._options.proxy and not self._root else ""

    def _failure(self, error: Exception) -> MlopsError:
        text, where = str(error), self._where()
        if "NoSuchBucket" in text:
            return self._no_bucket()
        if "No space left" in text or "StorageFull" in text:
            return RemoteFailed(f"No space left in {where}", fix="Free some, then run this again: it goes on")
        if "InvalidAccessKeyId" in text or "SignatureDoesNotMatch" in text or "AccessDenied" in text:
            return RemoteFailed(
                f"Cannot use {where}: access denied",
                why=_reason(error),
                fix=f"Check {_KEYS['s3']}",
            )
        if any(server in text for server in _METADATA):  # without keys, the cloud's is asked for some
            return BadInput(f"No keys for {where}", fix=f"Set {_KEYS[self._scheme]}, or `store-role`")
        if "kind: Connect" in text or "tcp connect error" in text or "dns error" in text:
            fix = f"Check `store-endpoint`{self._or_proxy()}"
            return RemoteFailed(f"Cannot connect to {where}", why=_reason(error), fix=fix)
        fix = f"Check `store` and `store-endpoint`{self._or_proxy()}"
        return RemoteFailed(f"Cannot use {where}", why=_reason(error), fix=fix)

    def _no_bucket(self) -> RemoteFailed:
        bucket = urlsplit(self.url).netloc
        return RemoteFailed(
            f"The bucket {bucket!r} does not exist in {self._where()}",
            fix=f"Create it (`aws s3 mb s3://{bucket}`), or correct `store`",
        )


def files_in(folder: Path) -> list[Path]:
    """The files in a folder at any depth, and its empty folders, in order of their paths.

    Raises:
        BadInput: there is something that cannot be kept the same on every store: a link that leads out of the folder,
            nowhere or to a folder, what is neither a file nor a folder, a file that cannot be read, or a name that
            stores or other systems do not have. Nothing in the folder has been opened.
    """
    found = []
    for item in sorted(folder.rglob("*")):
        name = item.relative_to(folder).as_posix()
        if why := _unfit(folder, item):
            raise BadInput(
                f"{name!r} in {folder.name} cannot be kept: {why}", fix="Leave it out, or write it as a plain file"
            )
        if item.is_file() or not any(item.iterdir()):
            found.append(item)
    return found


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Write to a folder of this machine, whose disk is not the store's.

    Raises:
        RemoteFailed: it is full.
    """
    try:
        yield
    except OSError as error:  # of a whole folder, `shutil` tells it as text
        if any(f"[Errno {one}]" in str(error) for one in FULL):
            raise RemoteFailed(f"No space left in {folder}", fix="Free some, then run this again") from error
        raise


def unfit_name(name: str) -> str:
    """Why nothing of this name can be kept; "" when it can."""
    if re.search(r"[\\\x00-\x1f\x7f]", name):
        return "its name has a backslash or a control character"
    if re.search(r"[\ud800-\udfff]", name):
        return "its name is not UTF-8"
    if re.match(r"[A-Za-z]:", name):
        return "its name begins as a drive of Windows does"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return f"its name is longer than {_LONGEST_NAME} bytes"
    if name == EMPTY or re.search(r"#\d+$", name):
        return "its name is one that stores of objects or folders use themselves"
    return ""


def _unfit(folder: Path, item: Path) -> str:
    """Why an item of a folder cannot be kept; "" when it can."""
    if why := unfit_name(item.name):
        return why
    if item.is_symlink():
        if not item.is_file() or not item.resolve().is_relative_to(folder.resolve()):
            return "it is a link that leads out of the folder, nowhere, or to a folder"
    elif not item.is_file() and not item.is_dir():
        return "it is neither a file nor a folder"
    if item.is_file() and not os.access(item, os.R_OK):
        return "it cannot be read"
    return ""


def _lock_file(root: Path, path: str) -> Path:
    """The lock of an object in a folder: beside the folder, so that nothing in it is ours alone."""
    name = f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.lock"
    for folder in (root.parent / f".{root.name}.locks", Path(tempfile.gettempdir()) / f"mlops-locks-{_key(root)}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return folder / name
        except OSError:
            continue
    raise RemoteFailed(f"Cannot make a lock for {root}", fix="Make its parent folder writable, or set TMPDIR")


def _key(root: Path) -> str:
    return hashlib.sha256(str(root).encode()).hexdigest()[:16]


class _Changed(Exception):
    """The object is not the one that was read."""


def fetch(uri: str, target: Path, options: StoreOptions | None = None) -> Path:
    """Download any URI, or copy a path without a scheme, to `target`.

    Raises:
        BadInput: nothing is there, or what is on this machine cannot be kept; see `files_in`.
        RemoteFailed: the store cannot be used.
    """
    try:
        if "://" not in uri or uri.startswith("file://"):
            source = file_path(uri) if "://" in uri else Path(uri)
            with _room(target.parent):
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    files_in(source)
                    shutil.copytree(source, target, dirs_exist_ok=True)
                elif source.is_file() or not os.path.lexists(source):
                    shutil.copyfile(source, target)
                else:
                    link = source.is_symlink()
                    why = "It is a link that leads nowhere" if link else "It is neither a file nor a folder"
                    raise BadInput(f"Cannot read {uri}", why=why, fix="Name a file or a folder")
                return target
        parent, _, name = uri.rstrip("/").rpartition("/")
        return Store(parent, options).get_file(name, target)
    except FileNotFoundError:
        raise BadInput(f"Nothing found at {uri}", fix="Check the URI and the store it is in") from None
    except PermissionError as error:
        raise BadInput(f"Cannot copy {uri}", why=str(error), fix="Check its rights") from None


def file_path(url: str) -> Path:
    """The path that a `file://` URL names."""
    path = unquote(urlsplit(url).path)
    return Path(path.lstrip("/") if os.name == "nt" else path)  # `/C:/x`


def blob_path(digest: str) -> str:
    """Where a store keeps the bytes with this digest."""
    return f"blobs/{digest.replace(':', '/')}"


def to_json(value: object) -> bytes:
    """The value as indented JSON with sorted keys, so that equal values are equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, default=str) + "\n").encode()


def _entry(meta: Any) -> Entry:
    modified = meta["last_modified"]
    version = f"{meta.get('e_tag') or ''}-{modified.isoformat()}-{meta['size']}"
    return Entry(meta["path"], meta["size"], version, modified)


def _content_tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _reason(error: Exception) -> str:
    """The most telling part of obstore's nested, many-line message."""
    text = str(error)
    if found := re.search(r"<Message>(.*?)</Message>", text, re.DOTALL):
        return found[1].strip()[:300]
    if found := re.search(r'(?:message|error): "([^"]+)"', text):  # the operating system's own words
        return found[1][:300]
    if "kind: TimedOut" in text or "kind: Timeout" in text or re.search(r"^\s*TimedOut", text, re.MULTILINE):
        return "Timed out waiting for a response"
    if found := re.search(r"status code: (\d+ [\w ]+)", text):  # an answer without a body
        return f"It responded {found[1].strip()}"
    first = text.split("\n")[0]
    return first.split("  - ")[-1].split("source: ")[-1].strip()[:300]


def _normal(url: str) -> str:
    try:
        check_store(url)
    except ValueError as error:
        shown = without_login(url)
        raise BadInput(f"The store {shown!r} {error}", fix="Correct `store`") from None
    return (url if "://" in url else Path(url).resolve().as_uri()).rstrip("/")
