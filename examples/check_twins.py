"""Do twins keep their two promises: an acceptance that is alpha, and speed-ups that passes foretell?

    python examples/check_twins.py PAIR [PAIR ...] [--out FILE]

PAIR: a pair of twins (examples/make_twin_pair.py), or TARGET+DRAFT, two folders of the cache that edgespec plan keeps.
Acceptance: greedy, gamma 3, answers drawn blindly that share no token, with exact binomial 95 % intervals, in both
engines. Speed-ups: the native engine; the overhead of a step is fitted at gamma 1 and 4, gamma 2, 3, 5 and 6 are held
back; answers are those whose tau is the expected one. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from edgespec.console import Terminal, force_utf8
from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.plan import RealMachine, Store, Walks, measure_alpha
from edgespec.plan.pace import steady
from edgespec.plan.session import CONTEXT, LENGTHS
from edgespec.plan.step_model import Answer, compared, fitted
from edgespec.settings import PLAIN_CANDIDATES
from edgespec.twins import read_twin, twin_label

FIT, HELD_BACK = (1, 4), (2, 3, 5, 6)
GAMMA = 3
PAIRS = 3
"""Of turns with the draft and without, in a timed answer."""


def open_pair(name: str) -> Pair:
    target, plus, draft = name.partition("+")
    return Store(Path(target).parent).pair(Path(target), Path(draft)) if plus else Pair.open(name, verify=False)


def acceptance(pair: Pair, walks: Walks, alphas: Sequence[float], options: Any) -> list[dict[str, Any]]:
    found = []
    settings = PLAIN_CANDIDATES[options.settings]
    for kind in (GenaiEngine, NativeEngine):
        engine = kind(pair, device=options.device, mode="draft", settings=settings)
        for alpha in alphas:
            prompts = walks.drawn(alpha, options.tokens, options.answers, seed=options.seed)
            answers = [engine.generate(prompt, options.tokens, gamma=GAMMA).steps for prompt in prompts]
            measured = measure_alpha(answers, alpha)
            if measured is not None:
                found.append({"engine": engine.name, **asdict(measured)})
        engine.close()
    return found


def speedups(pair: Pair, walks: Walks, alphas: Sequence[float], options: Any) -> list[dict[str, Any]]:
    runner = RealMachine(options.device).open(pair, PLAIN_CANDIDATES[options.settings])
    try:
        answers: list[Answer] = []
        runner.passes(LENGTHS)  # a warm-up
        for number, (alpha, gamma) in product(range(options.rounds), product(alphas, (*FIT, *HELD_BACK))):
            walk = walks.by_turns(alpha, gamma, PAIRS, context=CONTEXT, seed=number)
            answers.append(runner.answer(walk, alpha, gamma, LENGTHS))
    finally:
        runner.close()
    answers = steady(answers)
    fit_at = [(alpha, gamma) for alpha in alphas for gamma in FIT]
    points = compared(fitted(answers, fit_at), answers, fit_at)
    return [{**asdict(point), "error": point.error} for point in points]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="PAIR")
    parser.add_argument("--device", default="CPU")
    parser.add_argument("--settings", default="f32", choices=PLAIN_CANDIDATES)
    parser.add_argument("--answers", type=int, default=6, help="for acceptance, at each alpha (6; 0: not asked)")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2, help="of timed runs (2; 0: not timed)")
    parser.add_argument("--alphas", help="of those the twins have, by commas; all unless given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON of everything")
    options = parser.parse_args()
    terminal = Terminal()
    document: list[dict[str, Any]] = []
    try:
        for name in options.pairs:
            pair = open_pair(name)
            label = read_twin(pair.draft) if pair.draft else None
            if label is None:
                raise EdgespecError(f"the draft of '{name}' is no twin; make one with examples/make_twin_pair.py")
            made_for = tuple(label["alpha"]) if isinstance(label["alpha"], list) else (float(label["alpha"]),)
            walks = Walks(pair.manifest.target.vocab_size, made_for, label["seed"])
            alphas = [float(alpha) for alpha in options.alphas.split(",")] if options.alphas else list(made_for)
            accepted = acceptance(pair, walks, alphas, options) if options.answers else []
            points = speedups(pair, walks, alphas, options) if options.rounds else []
            document.append({"twins": twin_label(pair), "acceptance": accepted, "speedups": points})
            for row in accepted:
                low, high = row["interval"]
                terminal.say(
                    f"{twin_label(pair)}, {row['engine']}: asked {row['asked']:.2f}, accepted {row['alpha']:.3f} "
                    f"[{low:.3f}, {high:.3f}] of {row['examined']}"
                )
            for row in points:
                terminal.say(
                    f"{twin_label(pair)}: alpha {row['alpha']:.2f} gamma {row['gamma']}: predicted "
                    f"{row['predicted_speedup']:.2f}x, measured {row['measured_speedup']:.2f}x, {row['error']:+.1%}, "
                    f"{'held back' if row['held_back'] else 'fitted to'}"
                )
    except EdgespecError as error:
        terminal.say(f"error: {error}")
        return 2
    if options.out:
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    force_utf8()
    sys.exit(main())
