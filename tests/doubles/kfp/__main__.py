"""`python -m doubles.kfp --port 8888`, with tests/ and scripts/ on PYTHONPATH: the double beside other processes."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio

from mlops_actions.stores.store import StoreOptions

from . import KfpDouble, Settings, users_of


def main() -> None:
    """Run until a signal. The keys of the store are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    parser = argparse.ArgumentParser(prog="doubles.kfp", description=__doc__)
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--store", default="", help="endpoint of the S3 server; without it, artifacts are in a folder")
    parser.add_argument("--pipeline-root", default=Settings.pipeline_root, help="the server's own")
    parser.add_argument("--namespace", default=Settings.namespace, help="where pods are")
    parser.add_argument("--users", default="", help="a multi-user server: alice=team-a,team-b;bob=team-b")
    parser.add_argument("--python", type=Path, help="an interpreter with kfp and what components import")
    parser.add_argument("--no-metadata", action="store_true", help="without ML Metadata")
    parser.add_argument("--api", action="store_true", help="the API server alone, without the UI in front of it")
    parser.add_argument("--archive", action="store_true", help="pods are gone at once; their logs are in the store")
    given = parser.parse_args()
    keys = {f"aws_{name}": os.environ.get(f"AWS_{name.upper()}", "") for name in ("access_key_id", "secret_access_key")}
    settings = Settings(
        given.namespace,
        users_of(given.users) if given.users else None,
        pipeline_root=given.pipeline_root,
        ui=not given.api,
    )
    if given.store:
        _make_bucket(given.store, keys, given.pipeline_root)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with KfpDouble(
        StoreOptions(given.store, settings=keys) if given.store else None,
        settings,
        python=given.python,
        metadata=not given.no_metadata,
        archive=given.archive,
        port=given.port,
    ) as kfp:
        print(kfp.url, flush=True)
        stopped.wait()


def _make_bucket(endpoint: str, keys: dict[str, str], root: str) -> None:
    """The bucket of a pipeline root, which KFP's installation makes too."""
    parts, bucket = urlsplit(endpoint), urlsplit(root).netloc
    client = Minio(
        parts.netloc,
        access_key=keys["aws_access_key_id"],
        secret_key=keys["aws_secret_access_key"],
        secure=parts.scheme == "https",
        region=StoreOptions.region,
    )
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)


if __name__ == "__main__":
    main()
