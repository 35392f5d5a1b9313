"""The fields of a graph.pbtxt that edgespec writes, as a protobuf schema of our own.

Names, numbers and types are those of MediaPipe's framework/calculator.proto, stream_handler.proto and
sync_set_input_stream_handler.proto, and of OVMS's src/llm/llm_calculator.proto at v2026.3; read there, and typed here
anew. A field that is not below cannot be written by accident: parsing refuses it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

OPTIONS = "mediapipe.LLMCalculatorOptions"
HANDLER_OPTIONS = "mediapipe.SyncSetInputStreamHandlerOptions"
_EXTENSIBLE = (20000, 536870912)  # "20000 to max", end exclusive

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "string": _FIELD.TYPE_STRING,
    "bool": _FIELD.TYPE_BOOL,
    "uint64": _FIELD.TYPE_UINT64,
    "uint32": _FIELD.TYPE_UINT32,
}

MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "MediaPipeOptions": {},
    "SyncSet": {"tag_index": (1, "repeated string")},
    "SyncSetInputStreamHandlerOptions": {"sync_set": (1, "repeated SyncSet")},
    "InputStreamHandlerConfig": {"input_stream_handler": (1, "string"), "options": (3, "MediaPipeOptions")},
    "InputStreamInfo": {"tag_index": (1, "string"), "back_edge": (2, "bool")},
    "Node": {
        "name": (1, "string"),
        "calculator": (2, "string"),
        "input_stream": (3, "repeated string"),
        "output_stream": (4, "repeated string"),
        "input_side_packet": (5, "repeated string"),
        "node_options": (8, "repeated google.protobuf.Any"),
        "input_stream_handler": (11, "InputStreamHandlerConfig"),
        "input_stream_info": (13, "repeated InputStreamInfo"),
    },
    "CalculatorGraphConfig": {
        "node": (1, "repeated Node"),
        "input_stream": (10, "repeated string"),
        "output_stream": (15, "repeated string"),
    },
    "LLMCalculatorOptions": {
        "models_path": (1, "string"),
        "max_num_batched_tokens": (2, "uint64"),
        "cache_size": (3, "uint64"),
        "max_num_seqs": (4, "uint64"),
        "dynamic_split_fuse": (5, "bool"),
        "device": (6, "string"),
        "plugin_config": (7, "string"),
        "max_tokens_limit": (9, "uint32"),
        "enable_prefix_caching": (10, "bool"),
        "draft_models_path": (11, "string"),
        "draft_device": (12, "string"),
        "draft_cache_size": (14, "uint64"),
        "draft_eagle3_mode": (18, "bool"),
    },
}
"""Message -> field -> (number, type). SyncSet and Node are nested where the protos nest them."""

_NESTED = {"SyncSet": "SyncSetInputStreamHandlerOptions", "Node": "CalculatorGraphConfig"}
_EXTENSION = 155816273
"""SyncSetInputStreamHandlerOptions.ext, an extension of MediaPipeOptions."""


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The schema, beside google.protobuf.Any; apart from the default pool, where another program's may lie."""
    found = descriptor_pool.DescriptorPool()
    anything = descriptor_pb2.FileDescriptorProto()
    any_pb2.DESCRIPTOR.CopyToProto(anything)
    found.Add(anything)
    file = descriptor_pb2.FileDescriptorProto(name="edgespec/graph.proto", package="mediapipe", syntax="proto2")
    file.dependency.append(anything.name)
    made: dict[str, Any] = {}
    for name in (*(name for name in MESSAGES if name not in _NESTED), *_NESTED):
        outer = made[_NESTED[name]].nested_type if name in _NESTED else file.message_type
        message = made[name] = outer.add(name=name)
        for field, (number, kind) in MESSAGES[name].items():
            _add_field(message, field, number, kind)
    made["MediaPipeOptions"].extension_range.add(start=_EXTENSIBLE[0], end=_EXTENSIBLE[1])
    made["SyncSetInputStreamHandlerOptions"].extension.add(
        name="ext",
        number=_EXTENSION,
        label=_FIELD.LABEL_OPTIONAL,
        type=_FIELD.TYPE_MESSAGE,
        type_name=f".{HANDLER_OPTIONS}",
        extendee=".mediapipe.MediaPipeOptions",
    )
    found.Add(file)
    return found


def message_class(name: str) -> Any:
    """The class of a message, such as "mediapipe.CalculatorGraphConfig"."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    repeated, kind = kind.startswith("repeated "), kind.removeprefix("repeated ")
    field = message.field.add(
        name=name, number=number, label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    )
    if kind in _TYPES:
        field.type = _TYPES[kind]
        return
    field.type = _FIELD.TYPE_MESSAGE
    outer = f"{_NESTED[kind]}." if kind in _NESTED else ""
    field.type_name = f".{kind}" if "." in kind else f".mediapipe.{outer}{kind}"
