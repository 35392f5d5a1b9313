"""How fast training is here, as a share of what the machine multiplies, and where the rest goes.

    python examples/training_throughput.py [--shape 6x512] [--vocabulary 8192] [--batch 16] [--length 512] [--profile]

The whole loop of edgespec.train is timed on random tokens: reading ahead, forward, backward, clipping, AdamW, metrics.
FLOPs are those of matrix products (train/flops.py). The rate they are held against is the better of a large square
product and one of the model's own shape, measured before and after, in the precision that is trained in; on a GPU also
the data sheet's (MFU), where the card is known or --peak-tflops says it. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.train.batches import ShuffledRows
from edgespec.train.cross_entropy import next_token_loss
from edgespec.train.flops import training_flops
from edgespec.train.loop import LoopConfig, train
from edgespec.train.metrics import read_curve
from edgespec.train.precision import autocast, matmul_rate
from edgespec.train.shapes import Shape

PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "A10": 125}
"""Dense bf16 of the makers' data sheets (SXM where there are several)."""


def build(shape: Shape, vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    heads = max(1, shape.hidden // 64)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=round(shape.hidden * 2.75 / 64) * 64,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4 if heads % 4 == 0 else heads,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )
    return LlamaForCausalLM(config)


def step_seconds(model: LlamaForCausalLM, config: LoopConfig, length: int) -> list[float]:
    """Seconds of each step but the first two, by metrics.csv."""
    rows = {"input_ids": torch.randint(0, model.config.vocab_size, (4 * config.batch, length))}
    with tempfile.TemporaryDirectory() as folder:
        train(model, ShuffledRows(rows, config.batch, 0), next_token_loss, config, Path(folder))
        clock = [seconds for _, seconds in read_curve(Path(folder), "seconds")]
    return [after - before for before, after in itertools.pairwise(clock[1:])]


def profile(model: LlamaForCausalLM, config: LoopConfig, length: int, device: torch.device) -> str:
    """Where one step's time goes, by operator."""
    ids = torch.randint(0, model.config.vocab_size, (config.micro_batch or config.batch, length), device=device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    with torch.profiler.profile(activities=activities) as found:
        with autocast(device.type, "bf16" if config.precision == "bf16" else "f32"):
            loss, _ = next_token_loss(model, {"input_ids": ids})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table: str = found.key_averages().table(sort_by=key, row_limit=22, max_name_column_width=44)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=Shape.parse, default=Shape(6, 512))
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--peak-tflops", type=float, help="of the data sheet, for MFU")
    arguments = parser.parse_args()
    config = LoopConfig(
        steps=arguments.steps,
        batch=arguments.batch,
        micro_batch=arguments.micro_batch,
        precision=arguments.precision,
        compiled=arguments.compile,
        learning_rate=1e-4,
        checkpoint_every=10**6,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build(arguments.shape, arguments.vocabulary)

    def rate() -> float:
        sizes = (arguments.shape.hidden, 1024 if device.type == "cpu" else 8192)
        return max(matmul_rate(device, arguments.precision, size=size, seconds=2) for size in sizes)

    before = rate()
    seconds = statistics.median(step_seconds(model, config, arguments.length))
    measured = max(before, rate())
    tokens_per_second = config.batch * arguments.length / seconds
    flops = training_flops(model, arguments.length)
    achieved = flops * tokens_per_second
    peak = arguments.peak_tflops
    if peak is None and device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        peak = next((tflops for card, tflops in PEAK_TFLOPS.items() if card in name), None)
    document = {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "precision": arguments.precision,
        "batch": config.batch,
        "length": arguments.length,
        "compiled": config.compiled,
        "matmul_flops_per_second": measured,
        "flops_per_token": flops,
        "tokens_per_second": tokens_per_second,
        "seconds_per_step": seconds,
        "share_of_matmul_rate": achieved / measured,
        "mfu": achieved / (peak * 1e12) if peak else None,
    }
    print(f"matrix products here: {measured / 1e9:,.0f} GFLOP/s ({arguments.precision})")
    print(f"training: {tokens_per_second:,.0f} tokens/s, {seconds:.2f} s a step, {flops / 1e6:.0f} MFLOP a token")
    print(
        f"share of the matrix products' rate: {achieved / measured:.1%}"
        + (f", MFU {document['mfu']:.1%}" if peak else "")
    )
    if arguments.profile:
        print(profile(model, config, arguments.length, device))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
