"""graph.pbtxt: one node that runs a pair. Written through the schema, and read back through it before it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format

from edgespec.errors import EdgespecError

from .schema import HANDLER_OPTIONS, OPTIONS, message_class, pool

GRAPH = "mediapipe.CalculatorGraphConfig"


def write_graph(options: Mapping[str, Any]) -> str:
    """options: fields of LLMCalculatorOptions. The graph around them is the one that OVMS's calculator prescribes: it
    loops back to itself for every token, and finds the model in the side packet LLM_NODE_RESOURCES."""
    graph = message_class(GRAPH)()
    graph.input_stream.append("HTTP_REQUEST_PAYLOAD:input")
    graph.output_stream.append("HTTP_RESPONSE_PAYLOAD:output")
    node = graph.node.add(name="LLMExecutor", calculator="HttpLLMCalculator")
    node.input_stream.extend(["LOOPBACK:loopback", "HTTP_REQUEST_PAYLOAD:input"])
    node.input_side_packet.append("LLM_NODE_RESOURCES:llm")
    node.output_stream.extend(["LOOPBACK:loopback", "HTTP_RESPONSE_PAYLOAD:output"])
    node.input_stream_info.add(tag_index="LOOPBACK:0", back_edge=True)
    given = node.node_options.add()
    given.type_url = f"type.googleapis.com/{OPTIONS}"
    given.value = message_class(OPTIONS)(**options).SerializeToString(deterministic=True)
    node.input_stream_handler.input_stream_handler = "SyncSetInputStreamHandler"
    extension = pool().FindExtensionByName(f"{HANDLER_OPTIONS}.ext")
    node.input_stream_handler.options.Extensions[extension].sync_set.add().tag_index.append("LOOPBACK:0")
    text: str = text_format.MessageToString(graph, descriptor_pool=pool(), as_utf8=True)
    if read_options(text) != dict(options):
        raise EdgespecError("the graph does not say what it was made from; this is a mistake of edgespec's")
    return text


def read_graph(text: str) -> Any:
    """The graph in `text`. Raises EdgespecError where a field is unknown or of another type."""
    try:
        return text_format.Parse(text, message_class(GRAPH)(), descriptor_pool=pool())
    except text_format.ParseError as error:
        raise EdgespecError(f"the graph does not follow the published schema: {error}") from error


def read_options(text: str) -> dict[str, Any]:
    """The fields of LLMCalculatorOptions that are set in a graph."""
    (node,) = read_graph(text).node
    (given,) = node.node_options
    options = message_class(OPTIONS)()
    options.ParseFromString(given.value)
    return {field.name: value for field, value in options.ListFields()}
