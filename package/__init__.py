"""A pair as others serve it. So far: OpenVINO Model Server (OVMS), on one machine or on Kubernetes through KServe.

rules.py     what OVMS can do with a pair, what it cannot, and what follows from the pair's tuned profile
schema.py    the fields of its graph, numbered and typed as its published protos are
graph.py     graph.pbtxt, made from those fields and read back through them
kserve.py    the two resources of KServe
assemble.py  the model repository: staged, renamed into place
"""

from __future__ import annotations

from .assemble import package_for_ovms
from .rules import RELEASES

__all__ = ["RELEASES", "package_for_ovms"]
