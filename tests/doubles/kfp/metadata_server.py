"""Runs the real ML Metadata store, in an environment of its own: requests and answers as JSON lines.

`{"method", "bytes"}` passes a serialized request through as it came; `{"method", "json"}` is for the double's own
writes. Only the standard library and ml-metadata are there.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

from google.protobuf import json_format
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2


def answer(store: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The library's answer to one request: `bytes` or `json`, or `code` and `message` of its error."""
    method = request["method"]
    call = getattr(library, method, None)
    if call is None:
        return {"code": 12, "message": f"unknown method {method}"}
    message = getattr(metadata_store_service_pb2, f"{method}Request")()
    if "json" in request:
        json_format.ParseDict(request["json"], message)
        data = message.SerializeToString()
    else:
        data = base64.b64decode(request["bytes"])
    found, error, code = call(store, data)
    if code:
        return {"code": code, "message": error.decode()}
    if "json" not in request:
        return {"bytes": base64.b64encode(found).decode()}
    reply = getattr(metadata_store_service_pb2, f"{method}Response").FromString(found)
    return {"json": json_format.MessageToDict(reply, preserving_proto_field_name=True)}


def main() -> None:
    """Answer until the other end is closed."""
    connection = metadata_store_pb2.ConnectionConfig()
    if sys.argv[1:]:
        connection.sqlite.filename_uri = sys.argv[1]
        connection.sqlite.connection_mode = 3  # READWRITE_OPENCREATE
    else:
        connection.fake_database.SetInParent()
    migration = metadata_store_pb2.MigrationOptions().SerializeToString()
    store = library.CreateMetadataStore(connection.SerializeToString(), migration)
    for line in sys.stdin:
        try:
            reply = answer(store, json.loads(line))
        except Exception as error:
            reply = {"code": 3, "message": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
