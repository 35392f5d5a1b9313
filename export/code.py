"""Python code that a checkpoint brings along: what transformers would run of it, and when that is refused.

A checkpoint names its code under "auto_map", in config.json for the model, in tokenizer_config.json for the tokenizer
and in the configurations of processors. It is run only when it was asked for (--trust-remote-code) and cannot change
behind the back of whoever read it: a hub id at a full commit, and no code of another repository, which the commit does
not pin. Transformers' own class is taken where it has one, and then no flag is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

_CONFIG, _TOKENIZER = "config.json", "tokenizer_config.json"
_FILES = (_CONFIG, _TOKENIZER, "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True)
class Brought:
    """One class that a checkpoint brings. file: the configuration that names it; place: "module.Class", behind
    "owner/repository--" when the code is not the checkpoint's own."""

    file: str
    place: str

    @property
    def repository(self) -> str | None:
        owner, mark, _ = self.place.partition("--")
        return owner if mark else None


def brought_code(name: str, folder: Path) -> tuple[Brought, ...]:
    """Every class that the configurations in `folder` name. Raises EdgespecError for one that is not JSON."""
    found = []
    for file in _FILES:
        if (folder / file).is_file():
            try:
                document = json.loads((folder / file).read_bytes())
            except ValueError as error:
                raise EdgespecError(f"the {file} of '{name}' is not valid JSON ({error}); fetch it again") from error
            if isinstance(document, dict):
                found += [Brought(file, place) for place in _places(document.get("auto_map"))]
    return tuple(found)


def require_trusted(name: str, folder: Path, config: dict[str, Any], trust_remote_code: bool) -> None:
    """Refuse code of another repository where code is run, and code that is needed where it is not.

    Processors are never loaded here, so theirs is needed by nothing; but who trusts a checkpoint trusts all it names.
    Raises EdgespecError.
    """
    brought = brought_code(name, folder)
    if trust_remote_code:
        for code in brought:
            if code.repository is not None:
                raise EdgespecError(
                    f"'{name}' loads code from another repository ('{code.repository}', named in {code.file}), which "
                    "its revision does not pin; copy that code beside config.json and correct auto_map"
                )
        return
    kind = str(config.get("model_type"))
    for code in brought:
        if (code.file == _CONFIG and not _knows_model(kind)) or (
            code.file == _TOKENIZER and not _knows_tokenizer(kind, folder)
        ):
            raise EdgespecError(
                f"'{name}' needs the code it brings along ({code.place}, named in {code.file}; model type '{kind}'); "
                "read that code, then pass --trust-remote-code, for a hub id together with --revision COMMIT (the full "
                "hash)"
            )


def _places(auto_map: Any) -> Iterator[str]:
    """auto_map: class -> place, or a list of them where transformers tries several (older tokenizers: a bare list)."""
    if isinstance(auto_map, str):
        yield auto_map
    elif isinstance(auto_map, dict):
        for entry in auto_map.values():
            yield from _places(entry)
    elif isinstance(auto_map, list):
        for entry in auto_map:
            yield from _places(entry)


def _knows_model(kind: str) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return kind in CONFIG_MAPPING_NAMES


def _knows_tokenizer(kind: str, folder: Path) -> bool:
    """As AutoTokenizer decides it: by the model's type, else by the class that tokenizer_config.json names."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    if kind in TOKENIZER_MAPPING_NAMES:
        return True
    named = json.loads((folder / _TOKENIZER).read_bytes()).get("tokenizer_class")
    if not isinstance(named, str):
        return False
    named = named.removesuffix("Fast")
    return any(tokenizer_class_from_name(spelling) is not None for spelling in (named, f"{named}Fast"))
