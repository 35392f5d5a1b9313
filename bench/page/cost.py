"""The page's section on what an answer costs: time to the first token and after it, memory, energy."""

from __future__ import annotations

from edgespec.page import charts
from edgespec.page.markup import Arm, Html, Report, lead, number, section, table

from ..report import arm_label


def costs(report: Report) -> Html:
    """Latency percentiles, memory and energy of every arm that answered."""
    arms = [arm for arm in report["arms"] if arm["answers"]]
    if not arms:
        return Html()
    energy = any(arm["energy_j_per_token"] is not None for arm in arms)
    memory = "peak memory, GB" if any(arm["peak_rss_bytes"] for arm in arms) else "memory when loaded, GB"
    columns = ["arm", "TTFT ms", "p95", "TPOT ms", "p95", memory, *(["J a token"] if energy else [])]
    limits = {key: max([arm[key]["p95"] or 0.0 for arm in arms]) for key in ("ttft_ms", "tpot_ms")}
    most = max(_bytes(arm) or 0 for arm in arms)
    most_energy = max((arm["energy_j_per_token"] or 0.0 for arm in arms), default=0.0)
    rows = []
    for arm in arms:
        held = _bytes(arm)
        row: list[object] = [
            arm_label(arm),
            _metered(arm["ttft_ms"]["median"], ".0f", limits["ttft_ms"], arm["ttft_ms"]["p95"]),
            number(arm["ttft_ms"]["p95"], ".0f"),
            _metered(arm["tpot_ms"]["median"], ".2f", limits["tpot_ms"], arm["tpot_ms"]["p95"]),
            number(arm["tpot_ms"]["p95"], ".2f"),
            _metered(held and held / 1e9, ".2f", most / 1e9),
        ]
        if energy:
            row.append(_metered(arm["energy_j_per_token"], ".2f", most_energy))
        rows.append(row)
    words = "Medians over answers, with the 95th percentile: bars end at the median, thin lines at the percentile."
    said = (
        "Memory is that of the arm's whole process, target, draft and Python included; arms that share an engine, such "
        "as the gammas of one draft, share its process and its peak."
    )
    if not energy:
        said += " Energy is not readable here: the processor's counter is absent or closed to this user."
    return section(
        "costs", "Latency, memory, energy", words, table(columns, rows, "metered", "latency and memory"), lead(said)
    )


def _bytes(arm: Arm) -> int | None:
    found: int | None = arm["peak_rss_bytes"] or arm["loaded_rss_bytes"]
    return found


def _metered(value: float | None, form: str, limit: float, end: float | None = None) -> Html:
    bar = charts.meter(value, limit, end) if value is not None and limit > 0 else ""
    return Html(f"<td>{bar}{number(value, form)}</td>")
