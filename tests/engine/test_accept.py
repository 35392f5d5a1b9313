"""The emitted tokens are distributed as the target's own, to 1e-12: every draw of the drafter, every coin of `accept`
and every draw of the target's own token is enumerated, running the code itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from edgespec.engine import accept as accept_module
from edgespec.engine.accept import accept
from edgespec.engine.drafters import model as model_module
from edgespec.engine.drafters import ngram as ngram_module
from edgespec.engine.drafters.making import Request
from edgespec.engine.drafters.model import DraftModel
from edgespec.engine.drafters.ngram import NgramDrafter
from edgespec.engine.draws import draw_distinct, draw_replaced
from edgespec.engine.processors import Processor
from edgespec.engine.proposal import NOTHING, ROOT, Proposal, chain
from edgespec.engine.selection import Chosen, Distinct, Rounds, Spectr
from edgespec.sampling import GREEDY, Sampling

Choose = Callable[[Sequence[float]], int]
PROMPT = (1, 0)


class Script:
    """Chooses as `prefix` says, then the first possible option each time, and notes what else could be chosen."""

    def __init__(self, prefix: Sequence[int]) -> None:
        self._prefix = prefix
        self.taken: list[tuple[int, int | None]] = []  # the option taken, the next possible one
        self.probability = 1.0

    def __call__(self, weights: Sequence[float]) -> int:
        possible = [index for index, weight in enumerate(weights) if weight > 0]
        place = len(self.taken)
        option = self._prefix[place] if place < len(self._prefix) else possible[0]
        self.taken.append((option, next((index for index in possible if index > option), None)))
        self.probability *= weights[option]
        return option

    def next(self) -> list[int] | None:
        """The prefix of the next run in order; None after the last."""
        while self.taken:
            _, later = self.taken.pop()
            if later is not None:
                return [option for option, _ in self.taken] + [later]
        return None


def outcomes(program: Callable[[Choose], Any]) -> Iterator[tuple[float, Any]]:
    """(probability, result) of every run of `program`, which takes all its chances from the `choose` it is given."""
    prefix: list[int] | None = []
    while prefix is not None:
        script = Script(prefix)
        result = program(script)
        yield script.probability, result
        prefix = script.next()


class Coins:
    """Stands in for the random generator: `random() < chance` becomes a choice of two outcomes."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose

    def random(self) -> Coins:
        return self

    def __lt__(self, chance: float) -> bool:
        assert 0 <= chance <= 1
        return self._choose([chance, 1 - chance]) == 0


class World:
    """A target and a drafter over a small vocabulary, each a table of distributions by context."""

    def __init__(self, seed: int, vocabulary: int, sampling: Sampling) -> None:
        self.seed, self.vocabulary = seed, vocabulary
        self.processor = Processor(sampling, vocabulary, prompt_length=len(PROMPT))
        self._logits: dict[tuple[int, ...], np.ndarray] = {}
        self._p: dict[tuple[int, ...], np.ndarray] = {}
        self._q: dict[tuple[int, ...], np.ndarray] = {}

    def logits(self, context: tuple[int, ...]) -> np.ndarray:
        if context not in self._logits:
            logits = self._random(0, context).normal(size=self.vocabulary) * 1.5
            self._logits[context] = logits.astype(np.float32)
        return self._logits[context]

    def p(self, context: tuple[int, ...]) -> np.ndarray:
        if context not in self._p:
            self._p[context] = self.processor.distribution(self.logits(context), [*PROMPT, *context])
        return self._p[context]

    def q(self, context: tuple[int, ...]) -> np.ndarray:
        """Sometimes p itself, often without some tokens, as a drafter with its own top-k has it."""
        if context not in self._q:
            self._q[context] = self._draft(context)
        return self._q[context]

    def _draft(self, context: tuple[int, ...]) -> np.ndarray:
        random = self._random(1, context)
        if random.random() < 0.15:
            return self.p(context)
        weights = random.dirichlet(np.ones(self.vocabulary)) * (random.random(self.vocabulary) < 0.75)
        if weights.sum() == 0:
            weights[random.integers(self.vocabulary)] = 1.0
        return weights / weights.sum()

    def likeliest(self, context: tuple[int, ...]) -> list[int]:
        return [int(token) for token in np.argsort(-self.q(context), kind="stable")]

    def _random(self, who: int, context: tuple[int, ...]) -> np.random.Generator:
        return np.random.default_rng([self.seed, who, *context, 99])

    def joint(self, length: int) -> dict[tuple[int, ...], float]:
        """The target's own distribution of its next `length` tokens."""
        joint = {(): 1.0}
        for _ in range(length):
            joint = {
                (*context, token): mass * float(chance)
                for context, mass in joint.items()
                for token, chance in enumerate(self.p(context))
                if chance > 0
            }
        return joint


def propose(world: World, shape: Sequence[int], drawn: Sequence[bool], replaced: bool, choose: Choose) -> Proposal:
    """A tree of the parents in `shape` (ROOT is -1): node i is drawn from q behind its parent when drawn[parent+1],
    otherwise the likeliest not yet taken. A child that q has no token left for is left out, with what is below it."""
    tokens: list[int] = []
    parents: list[int] = []
    contexts: dict[int, tuple[int, ...]] = {ROOT: ()}
    at: dict[int, int] = {ROOT: ROOT}
    q: dict[int, np.ndarray] = {}
    for node, parent in enumerate(shape):
        if parent not in at:
            continue
        context = contexts[parent]
        taken = [tokens[i] for i in range(len(tokens)) if parents[i] == at[parent]]
        if drawn[parent + 1]:
            weights = world.q(context).copy()
            q[at[parent]] = world.q(context)
            if not replaced:
                weights[taken] = 0
                if weights.sum() == 0:
                    continue
                weights /= weights.sum()
            token = choose(list(weights))
        else:
            options = [token for token in world.likeliest(context) if token not in taken]
            if not options:
                continue
            token = options[0]
        at[node] = len(tokens)
        tokens.append(token)
        parents.append(at[parent])
        contexts[node] = (*context, token)
    return Proposal(np.asarray(tokens, np.int64), np.asarray(parents, np.int32), q, replaced)


def rows(world: World, proposal: Proposal) -> np.ndarray:
    contexts: list[tuple[int, ...]] = []
    for token, parent in zip(proposal.tokens, proposal.parents, strict=True):
        contexts.append((*(contexts[parent] if parent != ROOT else ()), int(token)))
    return np.stack([world.logits(context) for context in [(), *contexts]])


def emitted_joint(
    world: World, shape: Sequence[int], drawn: Sequence[bool], replaced: bool, rule: str
) -> dict[tuple[int, ...], float]:
    """The distribution of what one step emits, by enumeration."""

    def program(choose: Choose) -> tuple[int, ...]:
        proposal = propose(world, shape, drawn, replaced, choose)
        accept_module.draw = lambda distribution, rng: choose(list(distribution))
        path, bonus = accept(proposal, rows(world, proposal), world.processor, [*PROMPT], Coins(choose), rule=rule)  # type: ignore[arg-type]
        return (*(int(proposal.tokens[node]) for node in path), bonus)

    kept = accept_module.draw
    try:
        joint: dict[tuple[int, ...], float] = defaultdict(float)
        for probability, tokens in outcomes(program):
            joint[tokens] += probability
    finally:
        accept_module.draw = kept
    return joint


def assert_joint(world: World, joint: dict[tuple[int, ...], float], length: int) -> None:
    """The first `length` tokens of runs distributed as `joint`, with the target's own after shorter ones, are the
    target's."""
    full: dict[tuple[int, ...], float] = defaultdict(float)
    while joint:
        tokens, mass = joint.popitem()
        if len(tokens) >= length:
            full[tokens[:length]] += mass
        else:
            for token, chance in enumerate(world.p(tokens)):
                joint[(*tokens, token)] += mass * float(chance)
    expected = world.joint(length)
    for tokens in set(full) | set(expected):
        assert full.get(tokens, 0.0) == pytest.approx(expected.get(tokens, 0.0), abs=1e-12)


def assert_exact(
    world: World, shape: Sequence[int], drawn: Sequence[bool], replaced: bool = False, rule: str = "rounds"
) -> None:
    assert_joint(world, emitted_joint(world, shape, drawn, replaced, rule), depth_of(shape) + 1)


def depth_of(shape: Sequence[int]) -> int:
    depths: list[int] = []
    for parent in shape:
        depths.append(1 + (depths[parent] if parent != ROOT else 0))
    return max(depths, default=0)


SAMPLINGS = [
    Sampling(1.0),
    Sampling(0.6, top_k=2),
    Sampling(1.3, top_p=0.8),
    Sampling(0.9, min_p=0.2, top_k=3),
    Sampling(0.8, repetition_penalty=1.4, presence_penalty=0.5, frequency_penalty=0.3),
    Sampling(1.0, logit_bias={0: -np.inf, 1: 1.5}),
    GREEDY,
]


@st.composite
def worlds(draw: st.DrawFn, most_nodes: int, most_runs: int) -> tuple[World, list[int], list[bool]]:
    """A world and a random tree, small enough that the drafter's draws number at most `most_runs`."""
    vocabulary = draw(st.integers(2, 6))
    nodes = 1
    while nodes < most_nodes and vocabulary ** (nodes + 1) <= most_runs:
        nodes += 1
    nodes = draw(st.integers(1, nodes))
    shape = [draw(st.integers(-1, node - 1)) for node in range(nodes)]
    drawn = [draw(st.booleans()) for _ in range(nodes + 1)]
    world = World(draw(st.integers(0, 10**6)), vocabulary, draw(st.sampled_from(SAMPLINGS)))
    return world, shape, drawn


@settings(deadline=None, max_examples=30)
@given(worlds(4, 260), st.booleans(), st.sampled_from(["rounds", "spectr"]))
def test_any_tree_keeps_the_targets_distribution(
    case: tuple[World, list[int], list[bool]], replaced: bool, rule: str
) -> None:
    world, shape, drawn = case
    assert_exact(world, shape, drawn, replaced, rule)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 3), st.sampled_from(SAMPLINGS))
def test_a_drawn_chain_keeps_the_targets_distribution(seed: int, vocabulary: int, gamma: int, how: Sampling) -> None:
    assert_exact(World(seed, vocabulary, how), range(-1, gamma - 1), [True] * (gamma + 1))


@pytest.mark.parametrize(("replaced", "rule"), [(True, "rounds"), (True, "spectr"), (False, "rounds")])
@pytest.mark.parametrize("how", SAMPLINGS[:4])
def test_k_candidates_keep_the_targets_distribution(how: Sampling, replaced: bool, rule: str) -> None:
    for seed in range(2):
        for vocabulary, k in [(2, 5), (3, 4), (5, 3), (6, 2)]:
            assert_exact(World(seed, vocabulary, how), [ROOT] * k, [True] * (k + 1), replaced, rule)


@pytest.mark.parametrize(("replaced", "rule"), [(True, "rounds"), (True, "spectr"), (False, "rounds")])
def test_a_full_binary_tree_of_drawn_tokens_keeps_the_targets_distribution(replaced: bool, rule: str) -> None:
    for seed in range(2):
        assert_exact(World(seed, 2, Sampling(1.0)), [ROOT, ROOT, 0, 0, 1, 1], [True] * 7, replaced, rule)


def test_a_wide_chosen_tree_keeps_the_targets_distribution() -> None:
    shape = [ROOT, ROOT, ROOT, 0, 0, 1, 3, 3, 6]
    for seed in range(10):
        assert_exact(World(seed, 5, SAMPLINGS[seed % len(SAMPLINGS)]), shape, [False] * 10)


@pytest.mark.parametrize("how", [Sampling(1.0), Sampling(0.7, top_k=2)])
def test_trees_of_the_ngram_drafter_keep_the_targets_distribution(
    how: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its siblings are drawn before it is known how many are used; that must not show in what is emitted."""
    world = World(8, 3, how)
    drafter = NgramDrafter(3, sampling=how, longest=2, least=0.0)
    drafter.begin([0, 1, 2, 0, 1, 0, 2, 2, 1, 0, 0, 1, *PROMPT])
    joint: dict[tuple[int, ...], float] = defaultdict(float)

    def program(choose: Choose) -> tuple[int, ...]:
        def distinct(chances: np.ndarray, k: int, rng: object) -> list[int]:
            left, drawn = chances.copy(), []
            while len(drawn) < k and left.sum() > 0:
                drawn.append(choose(list(left / left.sum())))
                left[drawn[-1]] = 0
            return drawn

        monkeypatch.setattr(ngram_module, "draw_distinct", distinct)
        monkeypatch.setattr(accept_module, "draw", lambda distribution, rng: choose(list(distribution)))
        proposal = drafter.propose(3)
        path, bonus = accept(proposal, rows(world, proposal), world.processor, [*PROMPT], Coins(choose))  # type: ignore[arg-type]
        return (*(int(proposal.tokens[node]) for node in path), bonus)

    for probability, tokens in outcomes(program):
        joint[tokens] += probability
    assert_joint(world, joint, 3)


class DraftOf:
    """A draft model, and its sequence, whose logits behind PROMPT and what follows are a world's."""

    def __init__(self, world: World) -> None:
        self._world, self.vocab_size = world, world.vocabulary
        self.tokens: list[int] = []

    def sequence(self) -> DraftOf:
        return self

    def feed(self, ids: Sequence[int]) -> np.ndarray:
        self.tokens += ids
        return self._world.logits(tuple(self.tokens[len(PROMPT) :]))[None]

    def rollback(self, length: int) -> None:
        del self.tokens[length:]

    def reset(self) -> None:
        self.tokens.clear()


@pytest.mark.parametrize("how", [Sampling(1.0), Sampling(0.7, top_k=2)])
@pytest.mark.parametrize("seed", [4, 7])
def test_a_chain_that_ends_where_the_draft_is_unsure_keeps_the_targets_distribution(
    how: Sampling, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, draft = World(seed, 3, how), DraftOf(World(seed + 50, 3, how))
    joint: dict[tuple[int, ...], float] = defaultdict(float)
    lengths = set()

    def program(choose: Choose) -> tuple[int, ...]:
        monkeypatch.setattr(model_module, "draw", lambda distribution, rng: choose(list(distribution)))
        monkeypatch.setattr(accept_module, "draw", lambda distribution, rng: choose(list(distribution)))
        drafter = DraftModel(draft, 3).serve(Request(world.processor, np.random.default_rng()))  # type: ignore[arg-type]
        drafter.begin(PROMPT)
        proposal, sure = drafter.unfold(3, lambda sure: sure[-1] > 0.5)
        assert sure == [proposal.q[node - 1][token] for node, token in enumerate(proposal.tokens[: len(sure)])]
        lengths.add(len(proposal))
        path, bonus = accept(proposal, rows(world, proposal), world.processor, [*PROMPT], Coins(choose))  # type: ignore[arg-type]
        return (*(int(proposal.tokens[node]) for node in path), bonus)

    for probability, tokens in outcomes(program):
        joint[tokens] += probability
    assert lengths == {1, 2, 3}
    assert_joint(world, joint, 4)


def test_an_inexact_rule_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The enumeration tells a wrong residual: the common mistake of drawing again from p after a rejection."""
    monkeypatch.setattr(Rounds, "rejected", lambda self, token: self)
    with pytest.raises(AssertionError):
        assert_exact(World(3, 4, Sampling(1.0)), [ROOT], [True, True])


def test_greedy_takes_the_likeliest_path_whatever_was_drawn() -> None:
    world = World(0, 6, GREEDY)
    first = int(world.logits(()).argmax())
    second = int(world.logits((first,)).argmax())
    third = int(world.logits((first, second)).argmax())
    wrong = (first + 1) % 6
    tokens = np.asarray([wrong, first, first, second])
    proposal = Proposal(tokens, np.asarray([ROOT, ROOT, ROOT, 2], np.int32))  # the second of two equal siblings goes on
    assert accept(proposal, rows(world, proposal), world.processor, PROMPT, np.random.default_rng(0)) == ((2, 3), third)
    assert accept(NOTHING, rows(world, NOTHING), world.processor, PROMPT, np.random.default_rng(0)) == ((), first)


def test_only_rows_on_the_path_are_read() -> None:
    """Rows behind rejected tokens are not looked at: they are not numbers here, and nothing is raised."""
    world = World(0, 6, GREEDY)
    first = int(world.logits(()).argmax())
    for how in (GREEDY, Sampling(1.0)):
        processor = Processor(how, 6)
        proposal = chain([first, first, first])
        logits = rows(world, proposal)
        logits[0] = -1e9
        logits[0, (first + 1) % 6] = 1e9
        logits[1:] = np.nan
        assert accept(proposal, logits, processor, PROMPT, np.random.default_rng(0)) == ((), (first + 1) % 6)


def test_a_draft_equal_to_the_target_is_always_accepted() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5))
    for state in (Rounds(p, p.copy()), Distinct(p, p.copy()), Spectr(p, p.copy(), 3)):
        assert all(state.chance(token) == 1.0 for token in range(5))
        assert state.rejected(0).rest() == pytest.approx(p)  # of probability zero; the residual is empty, so p itself


def test_disjoint_distributions_leave_the_target_alone() -> None:
    p, q = np.asarray([0.5, 0.5, 0, 0]), np.asarray([0, 0, 0.25, 0.75])
    for state in (Rounds(p, q), Distinct(p, q), Spectr(p, q, 2)):
        assert state.chance(2) == 0 and state.rejected(2).rest() == pytest.approx(p)


def test_chosen_tokens_that_cover_the_target_leave_no_rejection() -> None:
    state = Chosen(np.asarray([0.7, 0.3 - 1e-16, 1e-16])).rejected(0)
    assert state.chance(1) == pytest.approx(1.0)
    assert state.rejected(0) is state and state.chance(0) == 0.0
    assert np.isfinite(state.rejected(1).rejected(2).rest()).all()


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 5))
def test_spectr_covers_what_it_emits_and_rho_is_the_least_that_does(seed: int, vocabulary: int, k: int) -> None:
    random = np.random.default_rng(seed)
    p, q = random.dirichlet(np.ones(vocabulary), 2)
    state = Spectr(p, q, k)
    assert 1 <= state.rho <= k

    def slack(rho: float) -> float:
        beta = np.minimum(q, p / rho).sum()
        return float(rho * beta - (1 - (1 - beta) ** k))

    assert slack(state.rho) >= -1e-12
    assert state.rho == 1 or slack(max(1.0, state.rho - 1e-4)) < 1e-9
    if k == 1:
        assert [state.chance(token) for token in range(vocabulary)] == [
            Rounds(p, q).chance(token) for token in range(vocabulary)
        ]


@pytest.mark.parametrize(("replaced", "rule"), [(True, "rounds"), (True, "spectr"), (False, "rounds")])
def test_drawn_with_a_real_generator_the_answer_follows_the_target(replaced: bool, rule: str) -> None:
    """Null: the first two tokens of 3,000 steps over a 3,2 tree of drawn tokens are the target's. Error rate 1e-4."""
    world, rng = World(5, 4, Sampling(1.0)), np.random.default_rng(11)
    counts: dict[tuple[int, ...], int] = defaultdict(int)
    draft = np.random.default_rng(12)
    root = world.q(())
    below = {token: world.q((token,)) for token in range(4)}
    logits = {context: world.logits(context) for n in range(3) for context in product(range(4), repeat=n)}
    draws = draw_replaced if replaced else draw_distinct
    p = {context: world.p(context) for context in [(), *((token,) for token in range(4))]}
    for _ in range(3000):
        first = draws(root, 3, draft)
        tokens, parents, q = list(first), [ROOT] * len(first), {ROOT: root}
        for node, token in enumerate(first):
            seconds = draws(below[token], 2, draft)
            tokens += seconds
            parents += [node] * len(seconds)
            q[node] = below[token]
        contexts = [(), *((token,) for token in first)]
        contexts += [
            (tokens[parent], token) for parent, token in zip(parents[len(first) :], tokens[len(first) :], strict=True)
        ]
        proposal = Proposal(np.asarray(tokens), np.asarray(parents, np.int32), q, replaced)
        stacked = np.stack([logits[context] for context in contexts])
        path, bonus = accept(proposal, stacked, world.processor, [*PROMPT], rng, rule=rule)  # type: ignore[arg-type]
        emitted = (*(tokens[node] for node in path), bonus)
        if len(emitted) == 1:
            emitted = (*emitted, int(rng.choice(4, p=p[emitted])))
        counts[emitted[:2]] += 1
    expected = world.joint(2)
    assert set(counts) <= set(expected)
    pairs = [(counts[pair], 3000 * mass) for pair, mass in expected.items()]
    small = [pair for pair in pairs if pair[1] < 5]  # pooled, as the test asks for
    cells = [pair for pair in pairs if pair[1] >= 5] + ([tuple(map(sum, zip(*small, strict=True)))] if small else [])
    assert chisquare([seen for seen, _ in cells], [mean for _, mean in cells]).pvalue > 1e-4
