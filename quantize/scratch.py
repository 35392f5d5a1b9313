"""A folder for what only a while needs, gone at the end even where the system holds on to mapped files.

Windows removes no file that is mapped, and OpenVINO maps the weights of every model it reads. So what holds one is let
go first: the frames that an error went through keep their variables until it is handled, and a model among these would
keep its file; the collector takes the rest. Then the removal is tried again for a while, since a virus scanner may look
at what was just written.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgespec.staging import SCRATCH_MARK, let_go, remove_folder


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder in `parent`, named as a scratch folder, while the block runs. One that cannot be removed turns no
    success into a failure: no manifest names what is in it, and staged_directory tries again at its end."""
    path = parent / f"{SCRATCH_MARK}{name}"
    path.mkdir()
    try:
        yield path
    except BaseException as error:
        let_go(error)
        raise
    finally:
        gc.collect()
        remove_folder(path)
