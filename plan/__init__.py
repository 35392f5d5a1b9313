"""Planning a draft before there is one: twins of real shapes with an acceptance that is set, measured on this machine.

shapes.py, layout.py           published shapes, and the tensors of a shape
cycle.py, rotation.py, twin.py, shards.py, tokenizer.py, separation.py
                               a twin's map over the vocabulary, and its checkpoint
prompts.py, walks.py           prompts whose answers have nothing in common, or a tau that is known
acceptance.py                  alpha as a run shows it
targets.py, store.py           what is planned for, and its twins in a bounded cache
weigh.py, turns.py, session.py, rows.py, planning.py
                               memory, passes and real answers, kept so that an interruption loses nothing
pace.py, step_model.py, trees.py
                               at one pace of the machine; from passes to speed-ups: chains and trees
facts.py, acceptance_file.py   published acceptance, the price of training, measured acceptance
answers.py, page/              the document, the sentences, the page
"""

from __future__ import annotations

from .acceptance import MeasuredAlpha, measure_alpha
from .acceptance_file import read_acceptance
from .answers import answer, sentences
from .facts import find_hardware
from .page import render_page, write_results
from .planning import Request, check, measure
from .prompts import apart_prompts
from .rows import Rows
from .session import RealMachine
from .shapes import SHAPES, find_shape, llama_shape
from .store import UNCOMPRESSED, Makers, Store, TwinSpec
from .targets import make_drafts, make_target, propose
from .twin import make_twin, make_twins
from .walks import ALPHAS, Walks

__all__ = [
    "ALPHAS",
    "SHAPES",
    "UNCOMPRESSED",
    "Makers",
    "MeasuredAlpha",
    "RealMachine",
    "Request",
    "Rows",
    "Store",
    "TwinSpec",
    "Walks",
    "answer",
    "apart_prompts",
    "check",
    "find_hardware",
    "find_shape",
    "llama_shape",
    "make_drafts",
    "make_target",
    "make_twin",
    "make_twins",
    "measure",
    "measure_alpha",
    "propose",
    "read_acceptance",
    "render_page",
    "sentences",
    "write_results",
]
