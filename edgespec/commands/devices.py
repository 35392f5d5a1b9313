"""edgespec devices"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ..console import Terminal
from ..devices import MODES, list_devices


def run(json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """The OpenVINO devices of this machine, and which modes each can run."""
    terminal = Terminal(json_output)
    with terminal.task("looking for devices"):
        devices = list_devices()
    if not json_output:
        terminal.table(
            "Devices",
            ["device", "name", "kind", "memory", "precisions", *MODES],
            [
                [
                    device.name,
                    device.full_name,
                    device.kind,
                    "unknown" if device.memory_bytes is None else f"{device.memory_bytes / 1e9:.1f} GB",
                    " ".join(device.precisions),
                    *("no" if device.modes[mode] else "yes" for mode in MODES),
                ]
                for device in devices
            ],
        )
        for device in devices:
            for mode, reason in device.modes.items():
                if reason:
                    terminal.say(f"{device.name} cannot run {mode}: {reason}")
        if not any(device.name.startswith(("GPU", "NPU")) for device in devices):
            terminal.say("no GPU or NPU was found: either there is none or its driver is not installed")
    terminal.answer({"devices": [asdict(device) for device in devices]})
