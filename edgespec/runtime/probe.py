"""The first compile on a risky device, in a process of its own: a driver that aborts, or hangs, takes only that along.

What came of it is remembered beside the compiled models, so that it is done once a device, driver and pair. The child
uses the same model cache, so its work is not lost.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..children import NO_WINDOW, frozen, unsupported_child
from ..staging import write_atomically

TIMEOUT_S = 1800.0
"""Compiling a large model for an NPU takes many minutes."""
MEMORY = "probed.json"


def risky(device: str) -> bool:
    """Whether compiling for `device` runs a driver that has been seen to abort: a GPU's or an NPU's
    (openvino#34450)."""
    return device.upper().partition(".")[0] in ("GPU", "NPU")


def attempt(call: str, arguments: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> str | None:
    """Run `module:function` with `arguments` in a child; None when it returned, else why it did not, in words.

    The child is a new process, never a fork: a fork would share the driver's threads and locks, which do not survive
    it. From a script it is an interpreter that knows nothing of the script, so the script needs no guard; from a frozen
    app it is the app once more, through multiprocessing, which the app allows by calling
    multiprocessing.freeze_support() before anything else.

    arguments: what json can write.
    """
    if unsupported_child():
        return (
            "this process was started to try it out and runs the app instead; the app must call "
            "multiprocessing.freeze_support() before anything else"
        )
    return _spawn(call, arguments, timeout_s) if frozen() else _interpret(call, arguments, timeout_s)


def _interpret(call: str, arguments: Mapping[str, Any], timeout_s: float) -> str | None:
    """In an interpreter of its own."""
    code = f"from {__name__} import main; main()"
    # -P: what lies in the working directory must not stand in for a library
    flags = ["-P"] if sys.version_info >= (3, 11) else []
    try:
        done = subprocess.run(
            [sys.executable, *flags, "-X", "utf8", "-c", code],
            input=json.dumps([call, dict(arguments)]),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            creationflags=NO_WINDOW,
        )
    except subprocess.TimeoutExpired:
        return _late(timeout_s)
    except OSError as error:
        return f"no process could be started for it: {error}"
    if done.returncode == 0:
        return None
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return _how(done.returncode, said[-1] if said else "")


def _spawn(call: str, arguments: Mapping[str, Any], timeout_s: float) -> str | None:
    """Through multiprocessing, spawned: what the child is, is multiprocessing's to know."""
    context = multiprocessing.get_context("spawn")
    hears, says = context.Pipe(duplex=False)
    process = context.Process(target=_spawned, args=(call, dict(arguments), says), daemon=True)
    try:
        process.start()
    except (OSError, RuntimeError) as error:
        return f"no process could be started for it: {error}"
    finally:
        says.close()
    with hears:
        said = _words(hears, timeout_s)
        process.join(0 if said is None else timeout_s)
        if process.is_alive():
            process.kill()
            process.join()
            return _late(timeout_s)
        code = process.exitcode or 0
        process.close()
    return None if code == 0 else _how(code, said or "")


def _words(hears: Connection, timeout_s: float) -> str | None:
    """What the child says at its end, "" when that was sudden; None when it says nothing in time."""
    try:
        return str(hears.recv()) if hears.poll(timeout_s) else None
    except (EOFError, OSError):
        return ""


def _late(timeout_s: float) -> str:
    return f"it did not come back within {timeout_s:g} s"


def _spawned(call: str, arguments: dict[str, Any], says: Connection) -> None:
    try:
        _carry_out(call, arguments)
    except Exception as error:
        says.send(" ".join(str(error).split()) or type(error).__name__)
        sys.exit(1)
    says.send("")


def main() -> None:
    """The child: reads the call from stdin."""
    call, arguments = json.load(sys.stdin)
    try:
        _carry_out(call, arguments)
    except Exception as error:
        sys.stderr.write(" ".join(str(error).split()) or type(error).__name__)
        sys.exit(1)


def _carry_out(call: str, arguments: dict[str, Any]) -> None:
    module, _, function = call.partition(":")
    getattr(importlib.import_module(module), function)(**arguments)


def _how(code: int, said: str) -> str:
    if code == 1 and said:
        return said
    how = f"its process was ended by signal {-code}" if code < 0 else f"its process ended with exit code {code}"
    return f"{how}: {said}" if said else how


class Memory:
    """What earlier probes found, in a file; forgotten when there is no folder to keep it in."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / MEMORY if folder else None

    def passed(self, facts: Mapping[str, Any]) -> bool:
        """Whether this very thing was probed and went well. Failures are not kept: a new driver may have come."""
        return _key(facts) in self._read()

    def keep(self, facts: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(sorted({*self._read(), _key(facts)})))

    def _read(self) -> list[str]:
        try:
            found = json.loads(self._path.read_bytes()) if self._path else []
        except (OSError, ValueError):
            return []
        return [key for key in found if isinstance(key, str)] if isinstance(found, list) else []


def _key(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
