"""Is a killed export ever a pair that loads and is wrong? Kill it, again and again, at moments drawn at random.

    python examples/killed_exports.py CHECKPOINT --out FOLDER [--kills 50] [--seed 0] [-- ARGUMENTS OF edgespec export]

Each of them starts `edgespec export CHECKPOINT -o FOLDER/pair`, kills it (SIGKILL; TerminateProcess on Windows) after a
time between nothing and what a whole run takes, and looks at what is there: nothing, or a pair whose every hash is
right. Then a run that nobody kills must end well, and leave nothing beside the pair.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgespec.pair import Pair


@dataclass
class Outcome:
    """Of the runs that were killed: how many left a staging directory, nothing, or a whole pair; and how many runs were
    over before their time came, which count as no kill."""

    partial: int = 0
    nothing: int = 0
    whole: int = 0
    too_late: int = 0

    @property
    def kills(self) -> int:
        return self.partial + self.nothing + self.whole


Moment = Callable[[], bool]
"""Whether it is time to kill."""


def kill_at_random(checkpoint: Path, out: Path, kills: int, seed: int = 0, arguments: tuple[str, ...] = ()) -> Outcome:
    """Run until `kills` runs were killed at moments drawn at random. Raises what `killed` and `finished` raise."""
    takes_s = finished(checkpoint, out, arguments)
    draw = random.Random(seed)
    outcome = Outcome()
    while outcome.kills < kills:
        # nine of ten later than a fifth: loading Python and torch writes nothing
        wait_s = draw.uniform(0.0 if draw.random() < 0.1 else 0.2, 1.0) * takes_s
        started = time.monotonic()
        late = outcome.too_late
        killed(
            checkpoint, out, lambda since=started, wait_s=wait_s: time.monotonic() - since > wait_s, outcome, arguments
        )
        if outcome.too_late > late:
            takes_s = min(takes_s, time.monotonic() - started)  # the machine is quicker now
    finished(checkpoint, out, arguments)
    return outcome


def killed(checkpoint: Path, out: Path, moment: Moment, outcome: Outcome, arguments: tuple[str, ...] = ()) -> None:
    """Start one run, kill it when `moment` says so, and count in `outcome` what it left.

    Raises EdgespecError when a pair is there that is not whole, AssertionError for anything else that should not be.
    """
    process = subprocess.Popen(
        _command(checkpoint, out, arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    was_killed = False
    while process.poll() is None and not was_killed:
        time.sleep(0.005)
        if moment():
            process.kill()
            was_killed = process.wait() != 0  # it may have ended by itself meanwhile
    left = sorted(path.name for path in out.iterdir())
    if not was_killed:
        assert process.returncode == 0, f"a run that was not killed failed with {process.returncode}"
        outcome.too_late += 1
        Pair.open(out / "pair").delete()
    elif "pair" in left:
        Pair.open(out / "pair").delete()  # every hash was right
        outcome.whole += 1
    elif left:
        assert all(name.startswith(".pair.edgespec-partial-") for name in left), left
        outcome.partial += 1
    else:
        outcome.nothing += 1


def finished(checkpoint: Path, out: Path, arguments: tuple[str, ...] = ()) -> float:
    """Run to the end; the seconds it took. The pair must be whole and alone, and is deleted."""
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    subprocess.run(
        _command(checkpoint, out, arguments), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    took_s = time.monotonic() - started
    left = sorted(path.name for path in out.iterdir())
    assert left == ["pair"], f"the run left {left}"
    Pair.open(out / "pair").delete()
    return took_s


def _command(checkpoint: Path, out: Path, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "edgespec", "export", str(checkpoint), "-o", str(out / "pair"), *arguments]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked, arguments = parser.parse_known_args()
    shutil.rmtree(asked.out, ignore_errors=True)
    arguments = tuple(word for word in arguments if word != "--")
    outcome = kill_at_random(asked.checkpoint, asked.out, asked.kills, asked.seed, arguments)
    print(json.dumps({"kills": outcome.kills, "arguments": arguments, **asdict(outcome)}))


if __name__ == "__main__":
    main()
