"""A user who asks a model by gRPC without pause until standard input is closed; run where the server's packages are.

Arguments: the address, the model, and the authority that is asked for ("" for the address). Half of the requests come
on channels that are kept, the others each on one of its own. It asks for x = 2, of which version n gives 2 + n. At
its end it prints JSON: `failed`, a list of what went wrong; `answers`, how many each release gave.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from mlops_actions.serving.server import proto

ADDRESS, MODEL, AUTHORITY = sys.argv[1:4]
METHOD = f"/{proto.SERVICE}/ModelInfer"
OPTIONS = [("grpc.enable_http_proxy", 0), *([("grpc.default_authority", AUTHORITY)] if AUTHORITY else [])]
OVER, LOCK = threading.Event(), threading.Lock()
FAILED: list[str] = []
ANSWERS: Counter[str] = Counter()


def channel() -> grpc.Channel:
    """One with a connection of its own."""
    return grpc.insecure_channel(ADDRESS, [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)])


def ask(way: grpc.Channel) -> str:
    """Ask once; the release that answered."""
    request = proto.message("ModelInferRequest")(
        model_name=MODEL,
        inputs=[{"name": "x", "datatype": "FP64", "shape": [1, 1], "contents": {"fp64_contents": [2.0]}}],
    )
    method = way.unary_unary(
        METHOD,
        request_serializer=proto.message("ModelInferRequest").SerializeToString,
        response_deserializer=proto.message("ModelInferResponse").FromString,
    )
    response, call = method.with_call(request, timeout=30)
    values, version = list(response.outputs[0].contents.fp64_contents), int(response.model_version)
    if values != [2.0 + version]:
        raise ValueError(f"version {version} gave {values}")
    return str(dict(call.initial_metadata()).get("mlops-release", ""))


def run(kept: grpc.Channel | None) -> None:
    while not OVER.is_set():
        way, problem, release = kept or channel(), "", ""
        try:
            release = ask(way)
        except grpc.RpcError as error:
            problem = f"{'kept' if kept else 'new'}: {error.code().name}: {error.details()}"
        except ValueError as error:
            problem = str(error)
        if way is not kept:
            way.close()
        with LOCK:
            ANSWERS[release] += 1
            FAILED.extend([problem] if problem else [])


threads = [threading.Thread(target=run, args=(kept,)) for kept in (channel(), channel(), None)]
for thread in threads:
    thread.start()
sys.stdin.read()
OVER.set()
for thread in threads:
    thread.join()
print(json.dumps({"failed": FAILED, "answers": ANSWERS}))
