"""A JSON schema over the tiny tokenizer: masks, rollback, and exact acceptance under both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgespec.engine.accept import accept
from edgespec.engine.draws import draw
from edgespec.engine.grammar import Grammar, Vocabulary, json_schema, lark, regex
from edgespec.engine.processors import Processor
from edgespec.engine.proposal import ROOT, Proposal, chain
from edgespec.errors import EdgespecError
from edgespec.sampling import GREEDY, Sampling

pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["add", "stack"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["kind", "count"],
    "additionalProperties": False,
}
END = 0
VOCAB_ROWS = 320  # 20 more than the tokenizer has


@pytest.fixture(scope="module")
def vocabulary(tiny_target_checkpoint: Path) -> Vocabulary:
    return Vocabulary(tiny_target_checkpoint, VOCAB_ROWS, [END])


def ids(vocabulary: Vocabulary, text: str) -> list[int]:
    return list(vocabulary.tokenizer.tokenize_str(text))


def test_random_logits_write_documents_of_the_schema(vocabulary: Vocabulary) -> None:
    rng = np.random.default_rng(0)
    for how in (GREEDY, Sampling(1.0), Sampling(1.0, top_p=0.5)):
        for _ in range(5):
            processor = Processor(how, VOCAB_ROWS, prompt_length=1, constraint=Grammar(vocabulary, json_schema(SCHEMA)))
            text = [5]
            while text[-1] != END:
                text.append(draw(processor.distribution(rng.normal(size=VOCAB_ROWS).astype(np.float32), text), rng))
                assert len(text) < 60
            said = json.loads(vocabulary.tokenizer.decode_str(text[1:-1]))
            assert said["kind"] in ("add", "stack") and 0 <= said["count"] <= 99


def test_a_mask_is_the_same_however_it_is_reached(vocabulary: Vocabulary) -> None:
    """Forwards, after going back, and across branches: always as by a fresh grammar."""
    used = Grammar(vocabulary, json_schema(SCHEMA))
    texts = [ids(vocabulary, text) for text in ('{"kind":"add","count":1', '{"kind":"stack"', '{"kind":"add","co', "")]
    for answer in [*texts, *texts[::-1], texts[0][:3], texts[1]]:
        fresh = Grammar(vocabulary, json_schema(SCHEMA)).allowed(answer)
        assert np.array_equal(used.allowed(answer), fresh)
        assert fresh.any() and not fresh[300:].any()


def test_only_an_end_may_follow_the_end(vocabulary: Vocabulary) -> None:
    grammar = Grammar(vocabulary, regex("ab"))
    whole = ids(vocabulary, "ab")
    assert np.flatnonzero(grammar.allowed(whole)).tolist() == [END] and grammar.satisfied
    assert np.flatnonzero(grammar.allowed([*whole, END])).tolist() == [END]
    with pytest.raises(EdgespecError, match="before its grammar"):
        grammar.allowed([whole[0], END])
    assert grammar.allowed([]).any() and not grammar.satisfied


def test_a_proposal_is_kept_as_far_as_the_grammar_goes(vocabulary: Vocabulary) -> None:
    grammar = Grammar(vocabulary, json_schema(SCHEMA))
    good = ids(vocabulary, '{"kind":"add","count":7}')
    wrong = [*good[:3], *ids(vocabulary, "zzz")]
    logits = np.zeros((7, VOCAB_ROWS), np.float32)
    for row, token in enumerate(wrong):  # what the target would like to say, which the grammar forbids from place 3 on
        logits[row, token] = 5.0
    logits[3, good[3]] = 1.0
    processor = Processor(GREEDY, VOCAB_ROWS, prompt_length=2, constraint=grammar)
    path, bonus = accept(chain(wrong), logits, processor, [8, 9], np.random.default_rng(0))
    assert path == (0, 1, 2) and bonus == good[3]


def test_the_branches_of_a_tree_are_held_to_the_grammar_each(vocabulary: Vocabulary) -> None:
    """Greedily the second branch is right; sampled, every emitted token is one that the grammar allows."""
    left, right = ids(vocabulary, '{"kind":"add"')[-2:], ids(vocabulary, '{"kind":"stack"')[-2:]
    stem = ids(vocabulary, '{"kind":"')
    tokens = np.asarray([left[0], right[0], left[1], right[1]])
    proposal = Proposal(tokens, np.asarray([ROOT, ROOT, 0, 1], np.int32))
    rng = np.random.default_rng(1)
    for how in (Sampling(1.0), GREEDY):
        grammar = Grammar(vocabulary, json_schema(SCHEMA))
        processor = Processor(how, VOCAB_ROWS, prompt_length=1, constraint=grammar)
        for _ in range(40):
            logits = rng.normal(size=(5, VOCAB_ROWS)).astype(np.float32)
            path, bonus = accept(proposal, logits, processor, [7, *stem], rng)
            emitted = [int(tokens[node]) for node in path] + [bonus]
            for place, token in enumerate(emitted):
                assert Grammar(vocabulary, json_schema(SCHEMA)).allowed([*stem, *emitted[:place]])[token]


def test_what_cannot_be_used_is_a_sentence(vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="grammar cannot be used"):
        Grammar(vocabulary, lark("start: nothing"))
    with pytest.raises(EdgespecError, match="grammar cannot be used"):
        Grammar(vocabulary, json_schema({"type": "no such type"}))
    with pytest.raises(EdgespecError, match="no JSON schema"):
        json_schema("{")
    with pytest.raises(EdgespecError, match=r"tokenizer\.json"):
        Vocabulary(tmp_path, 320, [0])
    with pytest.raises(EdgespecError, match="ends the text"):
        Vocabulary(tmp_path, 320, [])
    with pytest.raises(EdgespecError, match="breaks the grammar"):
        Grammar(vocabulary, regex("ab")).allowed(ids(vocabulary, "x"))
