"""How fast a device reads weights at best: the limit that decoding a token at a time runs into.

A matrix of 256 MiB of f32 times one vector does two operations for every four bytes it reads, so its time is the
memory's. Weights in fewer bits are read no faster than this; how near decoding comes to it is what bandwidth reached
over this limit says.
"""

from __future__ import annotations

import time

import numpy as np

ROWS, COLUMNS = 16384, 4096
REPETITIONS = 12


def measure_bandwidth(device: str) -> float:
    """Bytes per second read at best, over REPETITIONS passes of one matrix-vector product on `device`.

    Raises RuntimeError (OpenVINO's) when the device cannot compile or run it.
    """
    import openvino
    from openvino import opset13 as ops

    draw = np.random.default_rng(0)
    weights = draw.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    vector = ops.parameter([1, COLUMNS], np.float32)
    model = openvino.Model([ops.matmul(vector, ops.constant(weights), False, True)], [vector])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if device.startswith("NPU"):
        settings.pop("INFERENCE_PRECISION_HINT")
    request = openvino.Core().compile_model(model, device, settings).create_infer_request()
    value = draw.standard_normal((1, COLUMNS), dtype=np.float32)
    best = float("inf")
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        request.infer([value])
        best = min(best, time.perf_counter() - started)
    return weights.nbytes / best
