"""The messages of the protocol's gRPC, described here, so that no generated code ties protobuf to one version.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/open_inference_grpc.proto
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
_TENSOR = "name:string=1 datatype:string=2 shape:int64*=3"
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool=1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool=1",
    "ModelReadyRequest": "name:string=1 version:string=2",
    "ModelReadyResponse": "ready:bool=1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string=1 version:string=2 extensions:string*=3",
    "ModelMetadataRequest": "name:string=1 version:string=2",
    "ModelMetadataResponse": "name:string=1 versions:string*=2 platform:string=3 inputs:.TensorMetadata*=4"
    " outputs:.TensorMetadata*=5 properties:string{}=6",
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelInferRequest": "model_name:string=1 model_version:string=2 id:string=3 parameters:InferParameter{}=4"
    " inputs:.InferInputTensor*=5 outputs:.InferRequestedOutputTensor*=6 raw_input_contents:bytes*=7",
    "ModelInferRequest.InferInputTensor": f"{_TENSOR} parameters:InferParameter{{}}=4 contents:InferTensorContents=5",
    "ModelInferRequest.InferRequestedOutputTensor": "name:string=1 parameters:InferParameter{}=2",
    "ModelInferResponse": "model_name:string=1 model_version:string=2 id:string=3 parameters:InferParameter{}=4"
    " outputs:.InferOutputTensor*=5 raw_output_contents:bytes*=6",
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR} parameters:InferParameter{{}}=4 contents:InferTensorContents=5",
    "InferParameter": "bool_param:bool=1| int64_param:int64=2| string_param:string=3| double_param:double=4|"
    " uint64_param:uint64=5|",
    "InferTensorContents": "bool_contents:bool*=1 int_contents:int32*=2 int64_contents:int64*=3 uint_contents:uint32*=4"
    " uint64_contents:uint64*=5 fp32_contents:float*=6 fp64_contents:double*=7 bytes_contents:bytes*=8",
}
"""`name:type=number` a field; after the type `*` for a list, `{}` for a map from texts; `|` for one of a choice.

A type that begins with `.` is one of the message's own.
"""
_FIELD = re.compile(r"(\w+):(\.?\w+)(\*|\{\})?=(\d+)(\|?)")
_Field = descriptor_pb2.FieldDescriptorProto


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="mlops_actions/inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.partition(".")
        made[name] = made[outer].nested_type.add(name=inner) if inner else file.message_type.add(name=name)
        for field in _FIELD.finditer(fields):
            _add(made[name], name, *field.groups())
    return file


def _add(
    message: descriptor_pb2.DescriptorProto, owner: str, name: str, kind: str, many: str | None, number: str, one: str
) -> None:
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if many:
        field.label = _Field.LABEL_REPEATED
    if many == "{}":
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _typed(entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL), owner, "string")
        _typed(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), owner, kind)
        kind = f".{entry.name}"
    if one:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    _typed(field, owner, kind)


def _typed(field: descriptor_pb2.FieldDescriptorProto, owner: str, kind: str) -> None:
    if kind.startswith(".") or kind[0].isupper():
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{owner}{kind}" if kind.startswith(".") else f".{PACKAGE}.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())


def message(name: str) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
