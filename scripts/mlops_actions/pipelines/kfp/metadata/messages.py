"""ML Metadata's messages, with those of their fields that are used, for protobuf's own library to read and write.

Built from a table, because the package that has them, ml-metadata, pins an old protobuf and has no wheels for Python
3.12 and later. Names and numbers: ml_metadata/proto/metadata_store.proto and metadata_store_service.proto of
google/ml-metadata. Enumerations are their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

PACKAGE = "ml_metadata"

_TYPES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Value": {
        "int_value": (1, "int64"),
        "double_value": (2, "double"),
        "string_value": (3, "string"),
        "struct_value": (4, "google.protobuf.Struct"),
        "bool_value": (6, "bool"),
    },
    "Context": {"id": (1, "int64"), "custom_properties": (5, "map Value")},
    "Execution": {
        "id": (1, "int64"),
        "last_known_state": (3, "int32"),
        "custom_properties": (5, "map Value"),
        "type": (7, "string"),
        "create_time_since_epoch": (8, "int64"),
        "last_update_time_since_epoch": (9, "int64"),
    },
    "Artifact": {
        "id": (1, "int64"),
        "type_id": (2, "int64"),
        "uri": (3, "string"),
        "custom_properties": (5, "map Value"),
        "type": (8, "string"),
    },
    "ArtifactType": {"id": (1, "int64"), "name": (2, "string")},
    "Step": {"index": (1, "int64"), "key": (2, "string")},
    "Path": {"steps": (1, "repeated Step")},
    "Event": {
        "artifact_id": (1, "int64"),
        "execution_id": (2, "int64"),
        "path": (3, "Path"),
        "type": (4, "int32"),
    },
    "ListOperationOptions": {"max_result_size": (1, "int32"), "next_page_token": (3, "string")},
    "GetContextByTypeAndNameRequest": {"type_name": (1, "string"), "context_name": (2, "string")},
    "GetContextByTypeAndNameResponse": {"context": (1, "Context")},
    "GetExecutionsByContextRequest": {"context_id": (1, "int64"), "options": (2, "ListOperationOptions")},
    "GetExecutionsByContextResponse": {"executions": (1, "repeated Execution"), "next_page_token": (2, "string")},
    "GetEventsByExecutionIDsRequest": {"execution_ids": (1, "repeated int64")},
    "GetEventsByExecutionIDsResponse": {"events": (1, "repeated Event")},
    "GetArtifactsByIDRequest": {"artifact_ids": (1, "repeated int64"), "populate_artifact_types": (3, "bool")},
    "GetArtifactsByIDResponse": {"artifacts": (1, "repeated Artifact"), "artifact_types": (2, "repeated ArtifactType")},
    "GetArtifactTypesByIDRequest": {"type_ids": (1, "repeated int64")},
    "GetArtifactTypesByIDResponse": {"artifact_types": (1, "repeated ArtifactType")},
}
"""The fields of each message by name: number and type, which may be `repeated`, or a `map` from text."""

_ONE_OF = {"Value": "value"}
"""Messages of whose fields one alone is set."""

_Field = descriptor_pb2.FieldDescriptorProto


def classes() -> dict[str, Any]:
    """The class of each message by its name, such as `Value`."""
    pool = descriptor_pool.DescriptorPool()
    struct = descriptor_pb2.FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(struct)
    pool.Add(struct)
    described = descriptor_pb2.FileDescriptorProto(
        name="metadata.proto", package=PACKAGE, syntax="proto2", dependency=[struct.name], message_type=_described()
    )
    pool.Add(described)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _TYPES}


def _described() -> Iterator[Any]:
    for name, fields in _TYPES.items():
        message = descriptor_pb2.DescriptorProto(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name=_ONE_OF[name])
        for field, (number, kind) in fields.items():
            many, _, kind = kind.rpartition(" ")
            if many == "map":
                kind = _entry(message, field, kind)
            described = _field(field, number, kind, repeated=bool(many))
            if name in _ONE_OF:
                described.oneof_index = 0
            message.field.append(described)
        yield message


def _entry(message: Any, field: str, kind: str) -> str:
    """A map is a list of messages with a key and a value: https://protobuf.dev/programming-guides/encoding/#maps"""
    name = f"{field.title().replace('_', '')}Entry"
    entry = message.nested_type.add(name=name, field=[_field("key", 1, "string"), _field("value", 2, kind)])
    entry.options.map_entry = True
    return f"{message.name}.{name}"


def _field(name: str, number: int, kind: str, *, repeated: bool = False) -> Any:
    described = _Field(name=name, number=number, label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL)
    if kind[0].islower() and "." not in kind:
        described.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
    else:
        described.type = _Field.TYPE_MESSAGE
        described.type_name = f".{kind}" if kind.startswith("google.") else f".{PACKAGE}.{kind}"
    return described
