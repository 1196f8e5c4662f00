"""A registry in a file that is there as a whole, before and after each change, whatever happens in between."""

from __future__ import annotations

import os
import tempfile
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feast.infra.registry.file import FileRegistryStore

if TYPE_CHECKING:
    from feast.repo_config import RegistryConfig


class WholeFileRegistryStore(FileRegistryStore):  # type: ignore[misc]
    """Feast's own empties the file and then writes it: a full disk or a kill in between loses every object.

    Feast loads it by the name that `registry_store_type` gives, which is its documented way to have another one.
    """

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        super().__init__(registry_config, repo_path)
        self._file = (repo_path / registry_config.path).resolve()

    def update_registry_proto(self, registry_proto: Any) -> None:
        """Write a new file beside the old one and put it in its place.

        Raises:
            OSError: it cannot be written; the old one is there still.
        """
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(datetime.now(timezone.utc))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._file.parent, prefix=f".{self._file.name}-")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(registry_proto.SerializeToString())
                file.flush()
                os.fsync(file.fileno())
            part.chmod(self._file.stat().st_mode & 0o777 if self._file.exists() else 0o644)
            part.replace(self._file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
