"""Whatever proposes tokens: one file a drafter, one line of DRAFTERS each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What is known of a drafter before it is made. module, name: where its class is (imported when it is used).

    needs_draft: the pair must have a draft model. takes_gamma: `generate(gamma=...)` bounds its proposals; otherwise
    it decides itself how much to propose.
    """

    module: str
    name: str
    meaning: str
    needs_draft: bool = False
    takes_gamma: bool = False


DRAFTERS: dict[str, Entry] = {}
"""By the mode that NativeEngine is opened with; the bench measures each as the arm native-<mode>."""
