"""A folder for what only a while needs, gone at the end even where the system holds on to mapped files.

Windows removes no file that is mapped, and OpenVINO maps the weights of every model it reads. So what holds one is let
go first: the frames that an error went through keep their variables until it is handled, and a model among these would
keep its file; the collector takes the rest. Then the removal is tried again for a while, since a virus scanner may look
at what was just written.
"""

from __future__ import annotations

import gc
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WAITS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A new folder at `path` while the block runs. One that cannot be removed stays where it is, inside a staged
    directory, which is refused or removed as a whole later; it turns no success into a failure."""
    path.mkdir()
    try:
        yield path
    except BaseException as error:
        _let_go(error)
        raise
    finally:
        gc.collect()
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a folder; where that fails, again after each of a few waits."""
    for wait in (*_WAITS_S, None):
        shutil.rmtree(path, ignore_errors=True)
        if wait is None or not path.exists():
            return
        gc.collect()
        time.sleep(wait)


def _let_go(error: BaseException | None) -> None:
    """Clear the variables of the finished frames that an error, and those it came from, went through."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
