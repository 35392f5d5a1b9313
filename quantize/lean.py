"""NNCF within little memory: weights are compressed some rows at a time, and what is done lies in a file, not in
memory.

Upstream (nncf 3.4) compresses a matrix in one piece, in f32, and keeps every result in memory until the model is
saved. For Llama-3.1-8B (16 GB) that is 5.8 GB of anonymous memory for the embedding alone, and 4.7 GB at the end. Rows
are independent of one another when scales belong to rows or to groups inside a row, so the same upstream function is
called on slices, and each slice's result goes to a scratch file that the model's constants then read through a memory
map: the system can write those pages out, and the result is the same to the byte (tested).

This leans on one internal name of nncf, pinned below 3.5 in pyproject.toml. Where it is missing, compression runs as
upstream does it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SLICE_ELEMENTS = 1 << 24
"""Weights compressed at once: some 70 MB a copy in f32. Larger is no faster."""


@contextmanager
def lean_compression(scratch: Path) -> Iterator[None]:
    """Inside the block, nncf.compress_weights on an OpenVINO model works in slices and keeps results in `scratch`.

    scratch: an existing folder, filled with the weights of the model. The model must be saved and dropped inside the
    block: its constants read the mapped files, which are let go at the end. Only one thread may be inside.
    """
    from nncf.quantization.algorithms.weight_compression import openvino_backend

    upstream = getattr(openvino_backend, "compress_weight", None)
    if upstream is None:
        yield
        return
    slices = _Slices(upstream, scratch)
    openvino_backend.compress_weight = slices.compress
    try:
        yield
    finally:
        openvino_backend.compress_weight = upstream


class _Slices:
    def __init__(self, upstream: Any, scratch: Path) -> None:
        self._upstream, self._scratch = upstream, scratch
        self._kept: list[np.memmap] = []  # OpenVINO holds no reference to memory that it was lent

    def compress(self, weight: Any, reduction_axes: Any, config: Any, precomputed: Any = None) -> Any:
        """In place of nncf's compress_weight: the same result, its tensor in a mapped file."""
        from nncf.openvino.optimized_functions.models import OV_MODEL_CACHE

        rows = _rows_at_once(weight.shape, reduction_axes)
        if precomputed is not None or rows >= weight.shape[0] or not _is_openvino(weight):
            return self._stored(self._upstream(weight, reduction_axes, config, precomputed), config)
        enabled = OV_MODEL_CACHE.enabled()
        OV_MODEL_CACHE.enable()  # upstream turns it off for memory's sake; slices are small, and compiling takes longer
        try:
            return self._in_slices(weight, reduction_axes, config, rows)
        finally:
            if not enabled:
                OV_MODEL_CACHE.disable()

    def _in_slices(self, weight: Any, reduction_axes: Any, config: Any, rows: int) -> Any:
        store: _Store | None = None
        scales: list[np.ndarray] = []
        zero_points: list[Any] = []
        part: Any = None
        for start in range(0, weight.shape[0], rows):
            part = self._upstream(_rows(weight, start, min(start + rows, weight.shape[0])), reduction_axes, config)
            if not _sliceable(part, config):
                return self._stored(self._upstream(weight, reduction_axes, config), config)
            if store is None:
                store = self._store(part.tensor, weight.shape[0] / part.tensor.shape[0])
            store.append(part.tensor)
            scales.append(np.array(part.scale.data))
            if part.zero_point is not None:
                zero_points.append(_copied(part.zero_point))
        assert store is not None
        from nncf.tensor import Tensor

        return replace(
            part,
            tensor=store.tensor(),
            scale=Tensor(np.concatenate(scales)),
            zero_point=_joined(zero_points) if zero_points else None,
        )

    def _stored(self, result: Any, config: Any) -> Any:
        """The result with its tensor moved to the scratch file, where it is large and its kind is known."""
        if not _sliceable(result, config) or math.prod(result.tensor.shape) < SLICE_ELEMENTS // 16:
            return result
        store = self._store(result.tensor, 1)
        store.append(result.tensor)
        return replace(result, tensor=store.tensor())

    def _store(self, part: Any, times: float) -> _Store:
        store = _Store(self._scratch / f"{len(self._kept)}.bin", part, times)
        self._kept.append(store.mapped)
        return store


class _Store:
    """One compressed matrix in a file, written slice by slice along its first axis."""

    def __init__(self, path: Path, part: Any, times: float) -> None:
        self._type = _element_type(part)
        self._shape = (round(part.shape[0] * times), *part.shape[1:])
        size = round(math.prod(self._shape) * self._type.bitwidth / 8)
        with path.open("wb") as file:
            file.truncate(size)
        self.mapped = np.memmap(path, dtype=np.uint8, mode="r+", shape=(size,))
        self._filled = 0

    def append(self, part: Any) -> None:
        content = _raw(part)
        self.mapped[self._filled : self._filled + len(content)] = content
        self._filled += len(content)

    def tensor(self) -> Any:
        """The whole as nncf's Tensor over the mapped bytes."""
        import openvino as ov
        from nncf.tensor import Tensor

        assert self._filled == len(self.mapped)
        return Tensor(ov.Tensor(self.mapped, list(self._shape), self._type))


def _rows_at_once(shape: tuple[int, ...], reduction_axes: Any) -> int:
    """Rows of a slice, an even number; all of them where the reduction runs across rows."""
    axes = (reduction_axes,) if isinstance(reduction_axes, int) else tuple(reduction_axes)
    if len(shape) < 2 or 0 in {axis % len(shape) for axis in axes} or math.prod(shape) <= SLICE_ELEMENTS:
        return shape[0]
    slices = math.ceil(math.prod(shape) / SLICE_ELEMENTS)  # of one size: upstream computes a small matrix another way
    return math.ceil(shape[0] / slices / 2) * 2


def _is_openvino(tensor: Any) -> bool:
    from nncf.tensor import TensorBackend

    return bool(tensor.backend == TensorBackend.ov)


def _rows(weight: Any, start: int, stop: int) -> Any:
    import openvino as ov
    from nncf.tensor import Tensor

    shape = list(weight.shape)
    return Tensor(ov.Tensor(weight.data, [start, *[0] * (len(shape) - 1)], [stop, *shape[1:]]))


def _sliceable(result: Any, config: Any) -> bool:
    """Whether the tensor is in the type that it is stored in: OpenVINO's always is, numpy's where it has 8 bits."""
    stored = _is_openvino(result.tensor) or (config.is_integer and config.num_bits == 8)
    plain = result.codebook is None and result.global_scale is None
    return bool(plain and stored and _element_type(result.tensor) is not None)


def _element_type(tensor: Any) -> Any:
    """OpenVINO's type of a tensor; None for one that is no 8-bit integer in numpy."""
    import openvino as ov

    if _is_openvino(tensor):
        return tensor.data.get_element_type()
    return {"uint8": ov.Type.u8, "int8": ov.Type.i8}.get(str(tensor.data.dtype))


def _raw(tensor: Any) -> np.ndarray:
    """The bytes, two to a byte for 4-bit types."""
    data = tensor.data.data if _is_openvino(tensor) else tensor.data
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def _copied(tensor: Any) -> Any:
    """A copy of a small tensor whose memory the next slice would reuse."""
    from nncf.tensor import Tensor

    if not _is_openvino(tensor):
        return Tensor(np.array(tensor.data))
    import openvino as ov

    return Tensor(ov.Tensor(_raw(tensor).copy(), list(tensor.shape), _element_type(tensor)))


def _joined(parts: list[Any]) -> Any:
    from nncf.tensor import Tensor

    if not _is_openvino(parts[0]):
        return Tensor(np.concatenate([part.data for part in parts]))
    import openvino as ov

    shape = [sum(part.shape[0] for part in parts), *parts[0].shape[1:]]
    return Tensor(ov.Tensor(np.concatenate([_raw(part) for part in parts]), shape, _element_type(parts[0])))
