"""--acceptance: what train evaluate and bench write, and every file that is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scripted

from edgespec.errors import EdgespecError
from edgespec.plan import read_acceptance, sentences
from edgespec.plan.step_model import tau


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


EVALUATED = {
    "gamma": 3,
    "acceptance_rate": 0.5,
    "alpha": [0.7, 0.65, 0.6],
    "by_task": {
        "code": {"acceptance_rate": 0.6, "alpha": [0.8, 0.7, None]},
        "text": {"acceptance_rate": 0.4, "alpha": []},
    },
}


def test_an_evaluation_is_read_whole_and_by_task(tmp_path: Path) -> None:
    whole, code, text = read_acceptance(written(tmp_path / "e.json", EVALUATED))
    assert (whole.name, whole.gamma, whole.by_position) == ("all", 3, (0.7, 0.65, 0.6))
    assert (tau(whole.alpha, 3) - 1) / 3 == pytest.approx(0.5)
    assert code.by_position == (0.8, 0.7) and code.alphas == (0.8, 0.7)
    assert text.by_position == () and text.alphas == text.alpha


def test_what_a_command_printed_is_read_by_its_last_line(tmp_path: Path) -> None:
    assert len(read_acceptance(written(tmp_path / "e", "loading\n" + json.dumps(EVALUATED)))) == 3


def test_a_bench_report_gives_its_arms_that_draft(tmp_path: Path) -> None:
    arms = [
        {"name": "plain", "mode": "plain", "gamma": None, "acceptance_rate": None, "alpha": []},
        {"name": "draft-g3", "mode": "draft", "gamma": 3, "acceptance_rate": 0.55, "alpha": [0.7, 0.7, 0.7]},
        {"name": "lookup", "mode": "lookup", "gamma": 5, "acceptance_rate": 0.2, "alpha": [0.4]},
    ]
    (found,) = read_acceptance(written(tmp_path / "report.json", {"schema": "edgespec.bench/1", "arms": arms}))
    assert (found.name, found.rate) == ("draft-g3", 0.55)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("nothing here", "is not JSON; give what edgespec train evaluate"),
        ("", "is not JSON"),
        ("[1]", "does not hold a JSON object"),
        ({"gamma": 3, "acceptance_rate": None}, "tells no acceptance of a draft"),
        ({"gamma": 3, "acceptance_rate": 1.5}, "tells no acceptance of a draft"),
        ({"arms": []}, "tells no acceptance of a draft"),
    ],
)
def test_what_is_neither_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        read_acceptance(written(tmp_path / "x.json", content))
    with pytest.raises(EdgespecError, match="cannot be read"):
        read_acceptance(tmp_path / "absent.json")


def test_it_is_placed_on_the_map_and_in_words(tmp_path: Path) -> None:
    profiles = read_acceptance(written(tmp_path / "e.json", EVALUATED))
    document = scripted.document(profiles=profiles)
    best = document["drafts"][0]
    placed = best["measured_acceptance"][0]
    model = scripted.model(best["shape"])
    assert placed["gain"] == pytest.approx(model.best((0.7, 0.65, 0.6)), rel=0.03)
    assert any(
        f"At the acceptance measured for 'all' (alpha {placed['alpha']:.2f})" in said for said in sentences(document)
    )
