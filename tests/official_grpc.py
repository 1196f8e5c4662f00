"""A client by the protocol's own messages, as the package kserve has them: run by path where that package is.

Standard input has a line of JSON a call: `address`, `method`, `request`. Standard output has a line for each: `code`,
`details`, `metadata` and `response`. Bytes are base64 in both, as protobuf writes JSON.
"""

from __future__ import annotations

import json
import sys
from importlib import util
from types import ModuleType

import grpc
from google.protobuf import json_format

for name in ("kserve", "kserve.protocol", "kserve.protocol.grpc"):
    # the packages as they are, without what they import themselves: the messages alone are asked for
    spec = util.find_spec(name)
    assert spec
    sys.modules[name] = made = ModuleType(name)
    made.__path__ = list(spec.submodule_search_locations or [])

from kserve.protocol.grpc import grpc_predict_v2_pb2, grpc_predict_v2_pb2_grpc  # noqa: E402


def main() -> None:
    channels: dict[str, grpc.Channel] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        address = asked["address"]
        channel = channels.setdefault(address, grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]))
        request = json_format.ParseDict(asked["request"], getattr(grpc_predict_v2_pb2, f"{asked['method']}Request")())
        method = getattr(grpc_predict_v2_pb2_grpc.GRPCInferenceServiceStub(channel), asked["method"])
        told: dict[str, object] = {"code": "OK", "details": ""}
        try:
            response, call = method.with_call(request, timeout=30)
            told["response"] = json_format.MessageToDict(
                response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            told["metadata"] = dict(call.initial_metadata())
        except grpc.RpcError as error:
            told |= {"code": error.code().name, "details": error.details()}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
