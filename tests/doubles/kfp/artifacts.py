"""Where tasks' artifacts and archived logs are: a real S3 server, or a folder."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from mlops_actions.stores.store import Store, StoreOptions

from .nodes import Log


class Artifacts:
    """The objects of runs, by the URIs that KFP gives them.

    Args:
        options: how to reach S3; `minio://` URIs, KFP's own, mean the same server.
    """

    def __init__(self, options: StoreOptions | None = None) -> None:
        self._options = options

    def place(self, root: str, task: str, name: str, execution: str) -> str:
        """The URI of an output: the run's root, the task, what sets its execution apart, the name."""
        return f"{root}/{task}/{execution}/{name}"

    def execution(self) -> str:
        """What sets one execution of a task apart from others."""
        return str(uuid.uuid4())

    def put(self, source: Path, uri: str) -> None:
        """Upload a file or a folder."""
        store, path = self._store(uri)
        store.put_file(source, path)

    def put_text(self, text: str, uri: str) -> None:
        """Upload a text."""
        store, path = self._store(uri)
        store.put(path, text.encode())

    def get(self, uri: str, target: Path) -> None:
        """Download a file or a folder."""
        store, path = self._store(uri)
        store.get_file(path, target)

    def archive(self, root: str, namespace: str, workflow: str, created: float, pod: str, log: Log) -> None:
        """Write a pod's log where KFP's own Argo configuration has it (workflow-controller-configmap-patch.yaml)."""
        bucket = "/".join(root.split("/")[:3])
        day = time.strftime("%Y/%m/%d", time.gmtime(created))
        self.put_text(log.text(), f"{bucket}/private-artifacts/{namespace}/{workflow}/{day}/{pod}/main.log")

    def _store(self, uri: str) -> tuple[Store, str]:
        parts = urlsplit(uri)
        if parts.scheme == "file":
            folder = Path(parts.path).parent
            folder.mkdir(parents=True, exist_ok=True)
            return Store(f"file://{folder}"), Path(parts.path).name
        return Store(f"s3://{parts.netloc}", self._options), parts.path.strip("/")
