"""The alignment set: the target itself answers prompts, at several temperatures, and its answers are kept in shards.

A draft is judged by how often it says what the target says, so it learns from the target's words, not from people's
(sequence-level distillation; FastDraft, arXiv:2411.11055).

request.py          what is asked, what comes back, and what a writer is
prompts.py          where prompts come from: files, the hub, documents, the target itself (Magpie)
by_openvino.py      the target as an OpenVINO model, by continuous batching
by_transformers.py  the target as a checkpoint
by_vllm.py          the same through vLLM, where it is installed
by_ray.py           many machines: Ray Data drives the writers
shards.py           parquet files that appear whole, and what was done so far
distributions.py    the target's likeliest next tokens, kept beside the answers
writing.py          prompts in, answers out, a shard at a time
job.py              one call of the command
"""

from __future__ import annotations

from .distributions import open_target, read_top_k, write_top_k
from .job import AlignmentJob, run_alignment_job
from .prompts import Prompt, cut_prompts, magpie_prefix, read_prompts
from .request import Answer, Request, Writer, Written
from .shards import read_answers
from .writing import Report, Settings, plan_requests, write_alignment_set, write_own_prompts

__all__ = [
    "AlignmentJob",
    "Answer",
    "Prompt",
    "Report",
    "Request",
    "Settings",
    "Writer",
    "Written",
    "cut_prompts",
    "magpie_prefix",
    "open_target",
    "plan_requests",
    "read_answers",
    "read_prompts",
    "read_top_k",
    "run_alignment_job",
    "write_alignment_set",
    "write_own_prompts",
    "write_top_k",
]
