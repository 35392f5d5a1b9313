"""--acceptance FILE: what a real draft was measured to be accepted, as `train evaluate` or a bench tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

from .step_model import alpha_of_rate


@dataclass(frozen=True)
class Profile:
    """One measured acceptance. gamma: it was measured at. rate: accepted / proposed. by_position: alpha at each; empty
    where that is not known. alpha: the same at every position, that gives the rate: its place on the map."""

    name: str
    gamma: int
    rate: float
    by_position: tuple[float, ...]
    alpha: float

    @property
    def alphas(self) -> float | tuple[float, ...]:
        """What predictions are made from."""
        return self.by_position or self.alpha


def read_acceptance(path: Path) -> list[Profile]:
    """The profiles in a JSON of `edgespec train evaluate --json`, or in a bench's report.json: of the whole first, then
    by task, or of each arm that drafts with a gamma.

    Raises EdgespecError when the file is neither, or tells no acceptance.
    """
    try:
        lines = path.read_text(encoding="utf-8").strip()
        try:
            document = json.loads(lines)
        except ValueError:  # stdout of a command, whose last line is the document
            document = json.loads(lines.splitlines()[-1])
    except OSError as error:
        raise EdgespecError(f"'{path}' cannot be read ({error.strerror}); give a file that --json made") from error
    except (ValueError, IndexError) as error:
        raise EdgespecError(
            f"'{path}' is not JSON; give what edgespec train evaluate --json printed, or report.json"
        ) from error
    if not isinstance(document, dict):
        raise EdgespecError(f"'{path}' does not hold a JSON object")
    found: list[Profile] = []
    if isinstance(document.get("arms"), list):
        for arm in document["arms"]:
            drafted = str(arm.get("mode", "")).endswith(("draft", "eagle3"))
            if drafted and (profile := _profile(str(arm.get("name")), arm.get("gamma"), arm)):
                found.append(profile)
    elif profile := _profile("all", document.get("gamma"), document):
        found.append(profile)
        for task, figures in (document.get("by_task") or {}).items():
            if len(document["by_task"]) > 1 and (own := _profile(str(task), document["gamma"], figures)):
                found.append(own)
    if not found:
        raise EdgespecError(
            f"'{path}' tells no acceptance of a draft (acceptance_rate, gamma, alpha); give what edgespec train "
            "evaluate --json printed, or a bench's report.json with a draft arm"
        )
    return found


def _profile(name: str, gamma: Any, figures: Mapping[str, Any]) -> Profile | None:
    rate = figures.get("acceptance_rate")
    if not isinstance(rate, (int, float)) or not isinstance(gamma, int) or not 0 <= rate <= 1:
        return None
    by_position = []
    for alpha in figures.get("alpha") or []:
        if not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
            break
        by_position.append(float(alpha))
    return Profile(name, gamma, float(rate), tuple(by_position), alpha_of_rate(float(rate), gamma))
