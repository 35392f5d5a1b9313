"""The own process of hashing.HashBeside: hashes a file while another process writes it.

A thread would not get to read: OpenVINO keeps the interpreter while it writes a model. This file runs as a script, with
nothing but the standard library, so that it is up within some hundredths of a second: `python -I -S follower.py FILE`.

It waits for FILE to appear and reads on as it grows. A byte on stdin says that the file is whole: it reads the rest and
answers with a line on stdout, the size in bytes and the hex sha256; with none when the file was replaced or cut short.
Where stdin ends without one, the writer is gone, and so is this process.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from pathlib import Path

PAUSE_S = 0.05
"""Between two looks at a file that has not grown."""
BLOCK = 1 << 22


def follow(path: Path, whole: threading.Event) -> tuple[int, str] | None:
    """Size and sha256 of `path`, which others write until `whole` is set; None when it is not what was read."""
    while not path.exists():
        if whole.wait(PAUSE_S) and not path.exists():
            return None
    digest, count = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while True:
            last = whole.is_set()  # asked before the read: what was written until then is seen by it
            block = file.read(BLOCK)
            digest.update(block)
            count += len(block)
            if not block:
                if last:
                    break
                whole.wait(PAUSE_S)
        read, there = os.fstat(file.fileno()), path.stat()
    same = (read.st_dev, read.st_ino) == (there.st_dev, there.st_ino)
    return (count, digest.hexdigest()) if same and count == there.st_size else None


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the process that writes, which ends this one
    whole = threading.Event()
    answer: list[tuple[int, str] | None] = []
    reader = threading.Thread(target=lambda: answer.append(follow(Path(sys.argv[1]), whole)), daemon=True)
    reader.start()
    if not os.read(0, 1):
        os._exit(1)  # not to hold a file open that nobody finishes
    whole.set()
    reader.join()
    if answer and answer[0] is not None:
        os.write(1, b"%d %s\n" % (answer[0][0], answer[0][1].encode()))


if __name__ == "__main__":
    main()
