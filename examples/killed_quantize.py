"""Kill `edgespec quantize` at random moments and look at what it leaves: python examples/killed_quantize.py PAIR FOLDER

Each round starts the command, kills it (SIGKILL, or TerminateProcess on Windows) after a random time within the
length of a whole run, and checks: either there is no output, or it opens with every hash right. Then one run
goes to its end, beside what the dead ones left, and nothing but its pair may remain. Exit code 1 when any of it fails.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

from edgespec.errors import EdgespecError
from edgespec.pair import Pair


def killed_rounds(
    pair: Path, folder: Path, rounds: int, seed: int = 0, options: tuple[str, ...] = ()
) -> dict[str, int]:
    """How the rounds ended: killed before the pair appeared, or whole in time. Raises EdgespecError for a pair that is
    not whole, and AssertionError for leftovers after the last run."""
    out = folder / "out"
    command = [sys.executable, "-m", "edgespec", "quantize", str(pair), "-o", str(out), "--no-cost", *options]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    whole_s = time.perf_counter() - started
    _remove(out)
    draw = random.Random(seed)
    ends = {"killed": 0, "whole": 0, "left something": 0}
    for _ in range(rounds):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.15, 1.05) * whole_s)
        process.kill()
        process.wait()
        if out.exists():
            Pair.open(out)
            ends["whole"] += 1
            _remove(out)
        else:
            ends["killed"] += 1
        ends["left something"] += any(folder.iterdir())
        sys.stderr.write(f"{ends}\n")
    subprocess.run(command, check=True, capture_output=True)
    Pair.open(out)
    left = [path.name for path in folder.iterdir() if path != out]
    assert not left, f"the last run left {left} in '{folder}'"
    return ends


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    try:
        ends = killed_rounds(arguments.pair, arguments.folder, arguments.rounds, arguments.seed)
    except (AssertionError, EdgespecError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{arguments.rounds} rounds: {ends}; every output was whole, and the last run left nothing else\n")


if __name__ == "__main__":
    main()
