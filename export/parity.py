"""Does the OpenVINO tokenizer do what the Hugging Face one does? Both are asked the same things, and every difference
is listed: a prompt that becomes other tokens makes another answer, and no error anywhere says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgespec.pair import Role
from edgespec.progress import Progress
from edgespec.signals import keeping_signal_stack

PROBES: tuple[tuple[str, str], ...] = (
    ("English", "The quick brown fox doesn't jump over 2,500 lazy dogs -- it's 10:30 p.m."),
    (
        "code",
        "def area(r: float) -> float:\n\tif r < 0:\n        raise ValueError(f'{r!r}')\n    return 3.14 * r ** 2\n",
    ),
    ("blanks", "  two before,   three within,\n\n\ntwo empty lines and \t a tab at the end \t"),
    ("German", "Größe, Straße, Übermaß und »Anführung«"),
    ("Polish, decomposed accents", "Zażółć gęślą jaźń; cafe\u0301, n\u0303"),
    ("Russian", "Съешь же ещё этих мягких французских булок"),
    ("Greek", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία"),
    ("Arabic", "نص حكيم له سر قاطع وذو شأن عظيم"),
    ("Hebrew", "דג סקרן שט בים מאוכזב"),
    ("Hindi", "ऋषियों को सताने वाले दुष्ट राक्षसों"),
    ("Thai", "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า"),
    ("Chinese", "我能吞下玻璃而不伤身体。繁體字也可以"),
    ("Japanese", "いろはにほへと、カタカナ、半角ｶﾀｶﾅ"),
    ("Korean", "키스의 고유조건은 입술끼리 만나야 하고"),
    ("emoji", "😀👍🏽 👩‍👩‍👧‍👦 🇪🇺 ❤️ ☂"),
    ("mathematics", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, ½ ≠ ２, x² ≤ ∞"),
    ("control characters", "a\u0000b\u200bc\u00add\ufeffe\r\nf\u2028g"),
    ("one letter", "a"),
    ("nothing", ""),
)
"""Name and text."""

CHATS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("a question", (("user", "What is 2 + 2?"),)),
    ("a second turn", (("user", "Hi"), ("assistant", "Hello!"), ("user", "Say 'ok' <b>&</b>"))),
    ("a system message", (("system", "Be brief."), ("user", "Why is the sky blue?"))),
)
_SHOWN = 12


@dataclass(frozen=True)
class Parity:
    """What was asked of both tokenizers, and a sentence part for each answer that differs."""

    asked: int
    differences: tuple[str, ...]


@keeping_signal_stack()
def compare_tokenizers(checkpoint: Path, exported: Path, trust_remote_code: bool = False) -> Parity:
    """Hold the tokenizer, the detokenizer and the chat template in `exported` against those of `checkpoint`.

    Both as transformers and openvino_genai use them: ids with and without special tokens, the text of ids with special
    tokens left out, and rendered chats. What one of them refuses, and the other does not, is a difference too.
    """
    import openvino_genai
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code, local_files_only=True)
    ours = openvino_genai.Tokenizer(str(exported))
    asked = 0
    differences: list[str] = []

    def hold(what: str, expected: Callable[[], Any], got: Callable[[], Any]) -> None:
        nonlocal asked
        asked += 1
        want, have = _answer(expected), _answer(got)
        if want != have and not (isinstance(want, Exception) and isinstance(have, Exception)):
            differences.append(f"{what}: transformers {_shown(want)}, OpenVINO {_shown(have)}")

    control = [str(token) for token in sorted(theirs.get_added_vocab(), key=theirs.get_added_vocab().__getitem__)[:8]]
    probes = [*PROBES, *([("control tokens", "a " + " b".join(control) + " c")] if control else [])]
    for name, text in probes:
        for special, ending in ((False, ""), (True, " with special tokens")):
            hold(
                f"ids of the probe '{name}'{ending}",
                partial(_their_ids, theirs, text, special),
                partial(_our_ids, ours, text, special),
            )
        ids = _their_ids(theirs, text, False)
        if ids:
            hold(
                f"text of the ids of '{name}'",
                partial(theirs.decode, ids, skip_special_tokens=True),
                partial(ours.decode, ids),
            )
    if theirs.chat_template:
        for name, turns in CHATS:
            messages = [{"role": role, "content": content} for role, content in turns]
            hold(
                f"the chat template for {name}",
                partial(theirs.apply_chat_template, messages, add_generation_prompt=True, tokenize=False),
                partial(ours.apply_chat_template, messages, add_generation_prompt=True),
            )
    return Parity(asked, tuple(differences))


def say_differences(differences: Sequence[str], role: Role, progress: Progress) -> None:
    """List them to whoever listens; nothing when there are none."""
    if differences:
        progress.say(f"the OpenVINO tokenizer of the {role} differs from transformers' in {len(differences)} answers:")
    for difference in differences:
        progress.say(f"  {difference}")


def _their_ids(tokenizer: Any, text: str, special: bool) -> list[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=special)["input_ids"]]


def _our_ids(tokenizer: Any, text: str, special: bool) -> list[int]:
    found = tokenizer.encode(text, add_special_tokens=special)
    return [int(token) for token in found.input_ids.data.reshape(-1)]


def _answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # a template that refuses a system message, or ids no detokenizer knows
        return error


def _shown(answer: Any) -> str:
    if isinstance(answer, Exception):
        return f"refuses it ({type(answer).__name__})"
    if isinstance(answer, list) and len(answer) > _SHOWN:
        return f"{answer[:_SHOWN]} and {len(answer) - _SHOWN} more"
    text = repr(answer)
    return text if len(text) <= 120 else text[:117] + "..."
