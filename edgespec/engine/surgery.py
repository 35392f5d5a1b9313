"""What an exported IR's attention masks are, and how they become inputs, so that it verifies trees and forgets tokens.

An exported decoder builds its masks from `attention_mask` and the length of its KV cache, and hands them to every
ScaledDotProductAttention. `open_masks` puts a parameter in place of each such mask:

- `attention_bias`, f32 [1, 1, new tokens, cache slots + new tokens]: 0 where a token sees a slot, HIDDEN where not;
- `attention_bias_<W>`, the same for layers that see a sliding window of W tokens;
- `logits_rows`, i64 [rows]: which of the new tokens' logits are wanted, so that a prompt does not pay for all.

What the masks were is not guessed from names: each is computed for one probe and must be causal, or causal within a
window that config.json names. Anything else (ALiBi, chunks, two-way parts) is refused, since a bias of ours would
silently change what the model says. On CPU the attention stays one fused node with its KV cache inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import EdgespecError

HIDDEN = -65504.0
"""The bias of what a token must not see: the lowest float16, so it survives any precision a device computes in."""

_PROBE_TOKENS = 3
_PROBE_PAST = 64
_KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "position_ids", "beam_idx"})
_AFTER_HEAD = frozenset({"Convert", "Multiply", "Divide", "Tanh", "Add"})
"""What may stand between the head's MatMul and the logits: element types, scales, soft caps."""


def bias_name(window: int | None) -> str:
    return "attention_bias" if window is None else f"attention_bias_{window}"


def mask_windows(model: Any, config: Mapping[str, Any], name: str) -> dict[Any, int | None]:
    """The window of each mask of `model` (an openvino.Model) by the output that computes it, None for a full mask.

    config: its config.json. Raises EdgespecError, calling the model `name`, when its masks are of another kind or it
    cannot take tokens back for another reason.
    """
    _require_rollback(model, name)
    sources = _mask_sources(model, name)
    return dict(zip(sources, _windows(model, sources, config, name), strict=True))


def open_masks(model: Any, windows: Mapping[Any, int | None], name: str) -> tuple[int | None, ...]:
    """Replace the masks of `model`, in place; the windows that now need a bias. windows: from `mask_windows`."""
    parameters: dict[int | None, Any] = {}
    for source, window in windows.items():
        if window not in parameters:
            parameters[window] = _parameter(bias_name(window), "f32", [1, 1, -1, -1])
        for consumer in source.get_target_inputs():
            if _is_attention(consumer.get_node()):
                consumer.replace_source_output(parameters[window].output(0))
    model.add_parameters(list(parameters.values()))
    pick_rows(model, name, axis=1)
    _drop_unused(model, name)
    model.validate_nodes_and_infer_types()
    return tuple(parameters)


def cache_axis(variable: Any) -> int | None:
    """The axis of a state's tensor that counts cached tokens; None for a state that is no KV cache."""
    shape = variable.get_info().data_shape
    if shape.rank.is_dynamic or len(shape) != 4:
        return None
    growing = [axis for axis in range(1, 4) if shape[axis].is_dynamic]
    return growing[0] if len(growing) == 1 and shape[0].is_dynamic else None


def _require_rollback(model: Any, name: str) -> None:
    states = model.get_variables()
    if not states:
        raise EdgespecError(f"{name} was exported without a KV cache as state; export it again with edgespec export")
    if recurrent := sorted(state.get_info().variable_id for state in states if cache_axis(state) is None):
        raise EdgespecError(
            f"{name} is recurrent: its state '{recurrent[0]}' is no KV cache, so rejected tokens cannot be taken back; "
            "decode it with the genai engine in mode plain"
        )
    inputs = {port.any_name for port in model.inputs}
    if not inputs >= {"input_ids", "position_ids"} or inputs - _KNOWN_INPUTS:
        raise EdgespecError(
            f"{name} takes the inputs {', '.join(sorted(inputs))}; the native engine drives models that take input_ids "
            "and position_ids and nothing unusual; use the genai engine"
        )
    if len(model.input("position_ids").partial_shape) != 2:
        raise EdgespecError(
            f"{name} has position_ids of {model.input('position_ids').partial_shape}, not of a text "
            "model's [batch, tokens]; use the genai engine"
        )


def _is_attention(node: Any) -> bool:
    return bool(node.get_type_name() == "ScaledDotProductAttention")


def _mask_sources(model: Any, name: str) -> list[Any]:
    """The distinct outputs that feed masks to attention, in graph order."""
    sources: dict[tuple[str, int], Any] = {}
    for node in model.get_ordered_ops():
        if not _is_attention(node):
            continue
        if node.get_attributes()["causal"] or node.get_input_size() < 4:
            raise EdgespecError(
                f"{name} hides later tokens inside its attention nodes instead of by a mask; its masks "
                "cannot be replaced, use the genai engine"
            )
        mask = node.input_value(3)
        sources[mask.get_node().get_friendly_name(), mask.get_index()] = mask
    if not sources:
        raise EdgespecError(
            f"{name} has no ScaledDotProductAttention to give a mask to (an eager export?); use the genai engine, or "
            "export it again with edgespec export"
        )
    return list(sources.values())


def _windows(model: Any, sources: list[Any], config: Mapping[str, Any], name: str) -> list[int | None]:
    """The window of each mask, None for a full one, from what the graph itself computes for a probe."""
    candidates = sorted(set(_named_windows(config)))
    past = max([_PROBE_PAST, *(window + 2 * _PROBE_TOKENS for window in candidates)])
    expected: dict[int | None, np.ndarray] = {w: visible(past, _PROBE_TOKENS, w) for w in [None, *candidates]}
    found: list[int | None] = []
    for source, mask in zip(sources, _evaluate(model, sources, past), strict=True):
        sees = _sees(mask)
        window = next((w for w, rows in expected.items() if sees is not None and np.array_equal(sees, rows)), -1)
        if window == -1:
            raise EdgespecError(
                f"{name} has an attention mask ({source.get_node().get_friendly_name()}) that is neither causal nor a "
                f"sliding window named in its config.json ({', '.join(map(str, candidates)) or 'which names none'}); "
                "use the genai engine"
            )
        found.append(window)
    return found


def visible(past: int, tokens: int, window: int | None) -> np.ndarray:
    """bool [tokens, past + tokens]: what each of `tokens` new tokens sees behind `past` cached ones."""
    row = np.arange(past, past + tokens)[:, None]
    column = np.arange(past + tokens)[None]
    seen = column <= row
    return seen if window is None else seen & (column > row - window)


def _named_windows(config: Mapping[str, Any]) -> Iterator[int]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _named_windows(value)
        elif (
            isinstance(value, int) and not isinstance(value, bool) and value > 0 and ("window" in key or "chunk" in key)
        ):
            yield value


def _sees(mask: np.ndarray) -> np.ndarray | None:
    """bool [tokens, slots] of a mask, None when it does more than hide."""
    if mask.ndim < 2 or mask.size != mask.shape[-2] * mask.shape[-1]:
        return None
    mask = mask.reshape(mask.shape[-2:])
    if mask.dtype == bool:
        return mask
    return mask == 0 if bool(np.all((mask == 0) | (mask < -1e4))) else None


def _evaluate(model: Any, sources: list[Any], past: int) -> list[np.ndarray]:
    """Each mask for _PROBE_TOKENS tokens behind `past` cached ones, from a cut-out of the graph that computes nothing
    else: whatever it asks only the shape of (the cache, hidden states) becomes an input of that shape."""
    import openvino

    twin = model.clone()
    wanted = {(source.get_node().get_friendly_name(), source.get_index()) for source in sources}
    outputs = {}
    for node in twin.get_ordered_ops():
        if _is_attention(node):
            mask = node.input_value(3)
            key = (mask.get_node().get_friendly_name(), mask.get_index())
            if key in wanted:
                outputs[key] = mask
    feeds: dict[str, np.ndarray] = {}
    parameters = []
    todo, done = [output.get_node() for output in outputs.values()], set()
    while todo:
        node = todo.pop()
        if node.get_friendly_name() in done:
            continue
        done.add(node.get_friendly_name())
        if node.get_type_name() == "Parameter":
            kept = node.output(0).any_name
            feeds[kept] = _probe_input(kept, past)
            parameters.append(node)
        for port in node.inputs():
            source = port.get_source_output()
            shape = _cut_shape(node, source, past)
            if shape is None:
                todo.append(source.get_node())
                continue
            cut = f"cut_{len(parameters)}"
            parameter = _parameter(cut, "f32", shape)
            parameters.append(parameter)
            feeds[cut] = np.zeros(shape, np.float32)
            port.replace_source_output(parameter.output(0))
    results = [openvino.op.Result(output) for output in outputs.values()]
    compiled = openvino.Core().compile_model(openvino.Model(results, parameters, "masks"), "CPU")
    answers = compiled(feeds)
    masks = dict(zip(outputs, (np.asarray(answers[i]) for i in range(len(results))), strict=True))
    return [masks[source.get_node().get_friendly_name(), source.get_index()] for source in sources]


def _cut_shape(node: Any, source: Any, past: int) -> list[int] | None:
    """The shape that `source` has in the probe when the mask needs no more of it than that, else None.

    A cache: a state, or the beam reordering behind it. Hidden states: any float [batch, tokens, width].
    """
    shape = source.get_partial_shape()
    if _of_cache(source):
        return [_or(shape[0], 1)] + [_or(shape[axis], past) for axis in range(1, len(shape))]
    if node.get_type_name() == "ShapeOf" and len(shape) == 3 and source.get_element_type().is_real():
        return [1, _PROBE_TOKENS, _or(shape[2], 1)]
    return None


def _or(dimension: Any, otherwise: int) -> int:
    return otherwise if dimension.is_dynamic else int(dimension.get_length())


def _probe_input(name: str, past: int) -> np.ndarray:
    if name == "attention_mask":
        return np.ones((1, past + _PROBE_TOKENS), np.int64)
    if name == "position_ids":
        return np.arange(past, past + _PROBE_TOKENS, dtype=np.int64)[None]
    return np.zeros(1, np.int32) if name == "beam_idx" else np.zeros((1, _PROBE_TOKENS), np.int64)


def _parameter(name: str, element_type: str, shape: list[int]) -> Any:
    import openvino

    parameter = openvino.opset13.parameter(shape, getattr(openvino.Type, element_type), name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def pick_rows(model: Any, name: str, *, axis: int) -> None:
    """Add the input logits_rows, and compute the head for these rows only: they are picked from the hidden states
    before its MatMul. axis: the one of the three that counts tokens."""
    import openvino

    outputs = [result for result in model.get_results() if "logits" in result.input_value(0).get_names()]
    if len(outputs) != 1 or len(outputs[0].input_value(0).partial_shape) != 3:
        raise EdgespecError(f"{name} has no output 'logits' of [batch, tokens, vocabulary]; it is no language model")
    if outputs[0].input_value(0).partial_shape[2].is_dynamic:
        raise EdgespecError(f"{name} does not say how many tokens its vocabulary has; export it again")
    port = outputs[0].input(0)
    while port.get_source_output().get_node().get_type_name() in _AFTER_HEAD:
        port = port.get_source_output().get_node().input(0)
    head = port.get_source_output().get_node()
    if head.get_type_name() == "MatMul" and len(head.input_value(0).get_partial_shape()) == 3:
        port = head.input(0)
    else:
        port = outputs[0].input(0)
    rows = _parameter("logits_rows", "i64", [-1])
    source = port.get_source_output()
    picked = openvino.opset13.gather(source, rows, openvino.opset13.constant(axis, openvino.Type.i64))
    port.replace_source_output(picked.output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()


def _drop_unused(model: Any, name: str) -> None:
    """Take out inputs that only fed masks; refuse a model that uses the cache's length or `attention_mask` otherwise,
    since both count tokens that were taken back."""
    used = {port.get_source_output().get_node().get_friendly_name() for node in _nodes(model) for port in node.inputs()}
    for parameter in model.get_parameters():
        if parameter.get_friendly_name() not in used:
            model.remove_parameter(parameter)
    if any(port.any_name == "attention_mask" for port in model.inputs) or any(map(_counts_cache, _nodes(model))):
        raise EdgespecError(
            f"{name} computes more than its masks from the length of its cache, which also counts tokens that were "
            "taken back; use the genai engine"
        )


def _nodes(model: Any) -> list[Any]:
    return list(model.get_ordered_ops())


def _counts_cache(node: Any) -> bool:
    """Whether `node` turns the length of the cache into data, positions for one. To broadcast by it is harmless."""
    if node.get_type_name() != "Range" and not (
        node.get_type_name() == "Convert" and node.output(0).get_element_type().is_real()
    ):
        return False
    todo, done = [node], set()
    while todo:
        for port in todo.pop().inputs():
            source = port.get_source_output()
            before = source.get_node()
            if before.get_friendly_name() in done or source.get_element_type().is_real():
                continue
            done.add(before.get_friendly_name())
            if before.get_type_name() == "ShapeOf" and _of_cache(before.input_value(0)):
                return True
            todo.append(before)
    return False


def _of_cache(source: Any) -> bool:
    """Whether an output is a state, or the beam reordering behind it."""
    node = source.get_node()
    if node.get_type_name() == "Gather":
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "ReadValue")
