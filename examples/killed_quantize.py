"""Kill `edgespec quantize` at random moments and look at what it leaves: python examples/killed_quantize.py PAIR FOLDER

A round starts the command in a process of its own, waits until it says that it began, kills it (SIGKILL, or
TerminateProcess on Windows) after a time drawn evenly from the length of a whole run, and checks: either there is no
output, or it opens with every hash right. By lot it is the plain command with its measurement of cost, or a sweep. In
the end one run of each goes through, beside what the dead ones left, and nothing but its output may remain. The answer
says in which part of the work the kills fell. Exit code 1 when any of it fails.

Loading torch, nncf and OpenVINO takes longer than compressing a tiny pair. Where the system can fork, processes are
forked from one that has loaded them, so that every kill falls into the work and fifty rounds take minutes; on Windows
each loads them before it says that it began.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.progress import SilentTask, Task

TEXT = (
    "def add(a, b):\n    return a + b\n\n\nclass Stack:\n    def push(self, item):\n        self.items.append(item)\n"
    * 3
)
KINDS = ("quantize", "sweep")


@dataclass
class Ends:
    """How rounds ended: killed before the output appeared, or with the output whole, of which too_late had ended by
    themselves. at: where the kills fell."""

    killed: int = 0
    whole: int = 0
    too_late: int = 0
    left_something: int = 0
    at: Counter[str] = field(default_factory=Counter)


class _Telling:
    """A Progress that tells the parent what begins."""

    def __init__(self, told: Connection) -> None:
        self._told = told

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        self._told.send(description)
        yield SilentTask()

    def say(self, message: str) -> None:
        pass


def work(kind: str, pair: Path, out: Path, told: Connection) -> None:
    """The command's work, in the process that is killed."""
    from edgespec.quantize import Ask, Request, measure_cost, quantize, sweep_pair

    asks = [Ask(TEXT, chat=False)]
    progress = _Telling(told)
    told.send("beginning")
    if kind == "sweep":
        sweep_pair(pair, out, Request(), asks=asks, max_new_tokens=8, min_agreement=0, progress=progress)
    else:
        quantize(
            pair,
            out,
            Request(),
            measure=lambda before, after, _: measure_cost(before, after, asks, progress, max_new_tokens=8),
            progress=progress,
        )
    told.send("end")


class Rounds:
    """Processes that work on one pair, into one folder."""

    def __init__(self, pair: Path, folder: Path) -> None:
        self.pair, self.folder = pair, folder
        self.out = folder / "out"
        self._written: dict[tuple[str, str], str] = {}
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._context.set_forkserver_preload(["edgespec.quantize", "edgespec.quantize.upstream", "nncf"])

    def whole(self, kind: str) -> float:
        """Seconds of a run that is left alone, from its beginning; the output is removed, having been looked at.

        Raises EdgespecError for one that is not whole, AssertionError for a failure or for leftovers.
        """
        process, heard = self._start(kind)
        started = time.perf_counter()
        while (last := _hear(heard)) not in ("end", None):
            pass
        taken = time.perf_counter() - started
        process.join()
        assert last == "end", f"the run that was left alone failed ({kind})"
        left = {path.name for path in self.folder.iterdir()} - {"out", "out-sweep.svg"}
        assert not left, f"a run that was left alone left {sorted(left)} in '{self.folder}'"
        self._look()
        return taken

    def killed(self, kind: str, moment: Callable[[Connection], str], ends: Ends) -> None:
        """One round. moment: returns when it is time, with the part of the work that had begun last."""
        process, heard = self._start(kind)
        at = moment(heard)
        process.kill()
        process.join()
        while heard.poll() and (told := _hear(heard)) is not None:  # what it had said before it was gone
            at = told
        assert at == "end" or (process.exitcode or 0) < 0, f"a run that nobody killed failed ({kind}, in: {at})"
        there = self._look()
        assert there or at != "end", f"a run that had ended left no output ({kind})"
        if there:
            ends.whole += 1
            ends.too_late += at == "end"
        else:
            ends.killed += 1
            ends.at[f"{kind}: {at}"] += 1
        ends.left_something += any(self.folder.iterdir())

    def _start(self, kind: str) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        heard, told = self._context.Pipe(duplex=False)
        process = self._context.Process(target=work, args=(kind, self.pair, self.out, told))
        process.start()
        told.close()  # so that the end of the process is the end of what is heard
        assert _hear(heard) == "beginning", "the process ended before it began to work"
        return process, heard

    def _look(self) -> bool:
        """Whether there is an output, which is then removed. Raises EdgespecError when it is not whole, AssertionError
        when its weights are not those of an earlier run in that format."""
        self.out.with_name("out-sweep.svg").unlink(missing_ok=True)
        if not self.out.exists():
            return False
        made = Pair.open(self.out).manifest
        for role, record in (("target", made.target), ("draft", made.draft)):
            if record is not None:
                found = record.files["openvino_model.bin"].sha256
                first = self._written.setdefault((role, record.precision), found)
                assert first == found, f"the {role} as {record.precision} is not what an earlier run wrote"
        shutil.rmtree(self.out)
        return True


def after(seconds: float) -> Callable[[Connection], str]:
    """The moment so many seconds after the beginning, or the end of the work."""

    def moment(heard: Connection) -> str:
        until = time.perf_counter() + seconds
        last = "beginning"
        while last != "end" and (left := until - time.perf_counter()) > 0 and heard.poll(left):
            if (told := _hear(heard)) is None:
                break
            last = told
        return last

    return moment


def _hear(heard: Connection) -> str | None:
    """The next that is told; None when the process is gone."""
    try:
        return str(heard.recv())
    except (EOFError, OSError):  # the latter in the middle of a message
        return None


def killed_rounds(pair: Path, folder: Path, rounds: int, seed: int = 0) -> Ends:
    """How rounds ended, of which `rounds` were killed before they ended by themselves. Raises EdgespecError for a pair
    that is not whole, AssertionError for what is left at last."""
    runs = Rounds(pair, folder)
    lengths = {kind: runs.whole(kind) for kind in KINDS}
    lengths = {kind: runs.whole(kind) for kind in lengths}  # the first loads what the others find in the file cache
    draw = random.Random(seed)
    ends = Ends()
    while ends.killed + ends.whole - ends.too_late < rounds:
        kind, late = draw.choice(KINDS), ends.too_late
        runs.killed(kind, after(draw.uniform(0, lengths[kind])), ends)
        if ends.too_late > late:  # runs have become faster than the one that was timed
            lengths[kind] *= 0.9
        sys.stderr.write(f"{ends.killed} killed, {ends.whole} whole, {ends.too_late} of them too late\n")
    for kind in KINDS:
        runs.whole(kind)
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path, help="a small uncompressed pair")
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    try:
        ends = killed_rounds(arguments.pair, arguments.folder, arguments.rounds, arguments.seed)
    except (AssertionError, EdgespecError) as error:
        sys.exit(f"error: {error}")
    parts = "\n".join(f"  {count:3} {part}" for part, count in ends.at.most_common())
    sys.stdout.write(
        f"{arguments.rounds} kills: {ends.killed} before the output appeared, {ends.whole - ends.too_late} behind it; "
        f"{ends.too_late} more came too late; {ends.left_something} left a scratch folder; "
        "every output was whole, and the last runs left nothing else.\n"
        f"The kills fell into:\n{parts}\n"
    )


if __name__ == "__main__":
    main()
