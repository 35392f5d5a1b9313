"""The papers' ablation on a target of one's own: what pretraining, continued pretraining and alignment each bring, the
losses of alignment side by side at the same budget, and a few sizes of draft.

    python examples/draft_ablation.py WORK                                   # train/recipes/draft.yaml
    python examples/draft_ablation.py WORK --losses ce,kl,tvd,tvd++ --shapes 2x256,1x320

Every variant is the recipe with one thing changed, in a work folder of its own below WORK; stages that it shares with
another are copied from there, not made again, so it can be stopped and started. The last line is one JSON document, and
WORK/ablation.csv the same as a table: acceptance rate at the recipe's gamma and temperatures, with its 95 % interval
over prompts.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgespec.commands.train.run import recipe_tools
from edgespec.console import Terminal, force_utf8
from edgespec.errors import EdgespecError
from edgespec.train import BUNDLED_RECIPE, Pipeline, Recipe, read_recipe, stage_facts
from edgespec.train.page import acceptance_rows

COLUMNS = ("variant", "draft", "temperature", "task", "acceptance_rate", "low", "high", "alpha", "tau", "mbsu")


def variants(recipe: Recipe, losses: list[str], shapes: list[str]) -> Iterator[tuple[str, Recipe]]:
    """(name, recipe): the recipe with each loss, and with each shape at the recipe's own loss."""
    for loss in losses:
        yield f"loss-{loss.replace('*', 'x').replace(' ', '')}", _changed(recipe, "align", loss=loss)
    for shape in shapes:
        yield f"shape-{shape}", _changed(recipe, "init", shape=shape, params=None)


def _changed(recipe: Recipe, section: str, **values: Any) -> Recipe:
    written = recipe.written()
    written[section] = {key: value for key, value in {**written[section], **values}.items() if value is not None}
    return Recipe.model_validate(written)


def share(pipeline: Pipeline, work: Path) -> None:
    """Copy finished stages of sibling variants that this one would make just the same."""
    for name, made in pipeline.made():
        place = pipeline.work / name
        if made or place.exists():
            continue
        for sibling in sorted(work.iterdir()):
            if sibling.is_dir() and sibling != pipeline.work and (sibling / name / "stage.json").is_file():
                pipeline.work.mkdir(exist_ok=True)
                shutil.copytree(sibling / name, place, copy_function=_link)
                if dict(pipeline.made())[name]:
                    break
                shutil.rmtree(place)


def _link(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, place)


def main() -> int:
    force_utf8()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recipe", type=Path, default=BUNDLED_RECIPE.with_name("draft.yaml"))
    parser.add_argument("--losses", default="", help="parted by commas")
    parser.add_argument("--shapes", default="", help="LAYERSxHIDDEN, parted by commas")
    arguments = parser.parse_args()
    terminal = Terminal(True)
    rows: list[list[Any]] = []
    try:
        recipe = read_recipe(arguments.recipe)
        losses, shapes = ([part for part in text.split(",") if part] for text in (arguments.losses, arguments.shapes))
        arguments.work.mkdir(parents=True, exist_ok=True)
        chosen = list(variants(recipe, losses, shapes)) or [("recipe", recipe)]
        for name, changed in chosen:
            pipeline = Pipeline(changed, arguments.work / name, recipe_tools(terminal), terminal)
            share(pipeline, arguments.work)
            terminal.say(f"{name}:")
            folders = pipeline.run()
            found = acceptance_rows(stage_facts(folders["evaluate"]))
            rows += [[name, *row] for row in found]
            overall = [row for row in found if row[2] == "all"]
            table = [[row[0], f"{row[1]:g}", f"{row[3]:.3f}", f"{row[4]:.3f} to {row[5]:.3f}"] for row in overall]
            terminal.table(name, ["draft", "temperature", "acceptance rate", "95 %"], table)
    except EdgespecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with (arguments.work / "ablation.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(json.dumps({"rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
