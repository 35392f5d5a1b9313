"""The alignment set: prompts of every kind, shards that survive a kill, engines that answer the same again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from edgespec.engine.model import open_model
from edgespec.errors import EdgespecError
from edgespec.settings import EXACT
from edgespec.train.generate import (
    Answer,
    Prompt,
    Request,
    Settings,
    cut_prompts,
    magpie_prefix,
    plan_requests,
    read_answers,
    read_prompts,
    read_top_k,
    write_alignment_set,
    write_top_k,
)
from edgespec.train.generate.by_openvino import OpenVinoWriter
from edgespec.train.generate.by_ray import write_with_ray
from edgespec.train.generate.by_transformers import TransformersWriter
from edgespec.train.generate.by_vllm import VllmWriter
from edgespec.train.generate.distributions import top_k
from edgespec.train.generate.prompts import encode, written_request
from edgespec.train.generate.shards import done_shards, shard_path
from edgespec.train.generate.writing import write_own_prompts
from edgespec.train.models import load_model
from edgespec.train.sequence import TorchModel

TEMPLATE = (
    "{% for m in messages %}<user>{{ m['content'] }}</user>\n{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


class Scripted:
    """A writer whose answer to a request is a function of it; it can die at a call."""

    name = "scripted"
    seeded = True

    def __init__(self, concurrent: int = 4, dies_at: int | None = None, same: bool = False) -> None:
        self.concurrent = concurrent
        self.calls: list[list[int]] = []
        self._dies_at = dies_at
        self._same = same

    def write(self, requests: Sequence[Request]) -> list[Answer]:
        self.calls.append([request.index for request in requests])
        if self._dies_at == len(self.calls):
            raise RuntimeError("killed")
        if self._same:
            return [Answer([7, 8], "stop") for _ in requests]
        return [Answer([request.seed % 90 + 30, 40 + request.index % 50], "length") for request in requests]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def tokenizer(tiny_target_checkpoint: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_target_checkpoint)


@pytest.fixture
def chat_tokenizer(tiny_target_checkpoint: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(tiny_target_checkpoint)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


PROMPTS = [Prompt(f"def f{index}(x):") for index in range(23)]
SETTINGS = Settings(max_new_tokens=8, shard=8, seed=5)


def _write(folder: Path, writer: Any, tokenizer: Any, **more: Any) -> Any:
    return write_alignment_set(folder, writer, PROMPTS, tokenizer, SETTINGS, inputs={"target": "t"}, **more)


def test_a_set_killed_anywhere_and_run_again_has_the_rows_of_one_that_was_not(tmp_path: Path, tokenizer: Any) -> None:
    report = _write(tmp_path / "whole", Scripted(), tokenizer)
    assert report.answers == 23 and report.shards == 3 and report.tokens == 46
    whole = list(read_answers(tmp_path / "whole"))
    for dies_at in (1, 2, 3, 5, 6):
        folder = tmp_path / f"killed-{dies_at}"
        with pytest.raises(RuntimeError, match="killed"):
            _write(folder, Scripted(dies_at=dies_at), tokenizer)
        (folder / ".part-00009.parquet.1.tmp").write_text("half a shard of a killed run")
        resumed = Scripted()
        _write(folder, resumed, tokenizer)
        assert list(read_answers(folder)) == whole
        assert sum(map(len, resumed.calls)) == 23 - 8 * ((dies_at - 1) // 2), "done shards are not asked again"
        assert not list(folder.glob(".*"))


def test_a_finished_set_is_not_asked_again(tmp_path: Path, tokenizer: Any) -> None:
    first = _write(tmp_path / "set", Scripted(), tokenizer)
    again = Scripted()
    report = _write(tmp_path / "set", again, tokenizer)
    assert again.calls == [] and (report.answers, report.tokens) == (first.answers, first.tokens)
    assert report.tokens_per_second is None


def test_other_inputs_a_gap_and_a_foreign_folder_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    folder = tmp_path / "set"
    _write(folder, Scripted(), tokenizer)
    with pytest.raises(EdgespecError, match=r"was made from other inputs .target was 't', now 'u'."):
        write_alignment_set(folder, Scripted(), PROMPTS, tokenizer, SETTINGS, inputs={"target": "u"})
    with pytest.raises(EdgespecError, match=r"was made from other inputs .settings was"):
        write_alignment_set(folder, Scripted(), PROMPTS, tokenizer, replace(SETTINGS, seed=6), inputs={"target": "t"})
    shard_path(folder, 1).unlink()
    with pytest.raises(EdgespecError, match=r"part-00001.parquet' is missing while later shards are there"):
        list(read_answers(folder))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(EdgespecError, match="holds files and is no alignment set"):
        _write(tmp_path / "mine", Scripted(), tokenizer)
    with pytest.raises(EdgespecError, match="holds no alignment set"):
        list(read_answers(tmp_path))


def test_a_damaged_shard_is_a_sentence(tmp_path: Path, tokenizer: Any) -> None:
    _write(tmp_path / "set", Scripted(), tokenizer)
    shard = shard_path(tmp_path / "set", 1)
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(EdgespecError, match=r"part-00001.parquet' is damaged .* delete it and generate again"):
        list(read_answers(tmp_path / "set"))


def test_a_full_disk_leaves_the_shards_before_it(tmp_path: Path, tokenizer: Any, monkeypatch: Any) -> None:
    import pyarrow.parquet

    real = pyarrow.parquet.write_table

    def full(table: Any, where: Path, **options: Any) -> None:
        if "00001" in str(where):
            Path(where).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(table, where, **options)

    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        _write(tmp_path / "set", Scripted(), tokenizer)
    assert [path.name for path in done_shards(tmp_path / "set")] == ["part-00000.parquet"]
    assert not list((tmp_path / "set").glob(".*"))
    monkeypatch.undo()
    _write(tmp_path / "set", Scripted(), tokenizer)
    assert len(list(read_answers(tmp_path / "set"))) == 23


def test_prompts_and_answers_are_kept_once(tmp_path: Path, tokenizer: Any) -> None:
    twice = [*PROMPTS[:3], *PROMPTS[:3], Prompt("   ")]
    report = write_alignment_set(
        tmp_path / "a", Scripted(), twice, tokenizer, replace(SETTINGS, temperatures=(0.0,)), inputs={}
    )
    assert report.answers == 4, "what is blank is still text here; the readers leave it out"
    settings = replace(SETTINGS, temperatures=(0.0, 0.6, 1.0), each=True, shard=2)
    report = write_alignment_set(tmp_path / "b", Scripted(same=True), PROMPTS[:4], tokenizer, settings, inputs={})
    assert report.answers == 4 and report.dropped == 8, "the same answer at three temperatures"


def test_requests_go_round_the_temperatures_or_take_each() -> None:
    prompts = [([1, 2, index], "code") for index in range(5)] + [([], ""), ([9] * 50, "")]
    settings = Settings(longest_prompt=10, top_p=0.9, seed=1)
    found = list(plan_requests(prompts, settings))
    assert [request.temperature for request in found] == [0.0, 0.6, 0.8, 1.0, 0.0]
    assert [request.index for request in found] == list(range(5)) and found[0].task == "code"
    assert len({request.seed for request in found}) == 5
    each = list(plan_requests(prompts, replace(settings, each=True)))
    assert [request.temperature for request in each[:5]] == [0.0, 0.6, 0.8, 1.0, 0.0] and len(each) == 20
    assert each[3].prompt_ids == each[0].prompt_ids
    assert [r.seed for r in plan_requests(prompts, replace(settings, seed=2))] != [r.seed for r in found]


@pytest.mark.parametrize("temperatures", [(0.0,), (0.8, 0.0, 1.0)])
def test_the_openvino_writer_answers_the_same_again_and_greedily_as_the_checkpoint(
    temperatures: tuple[float, ...], tiny_pair: Path, tiny_target_checkpoint: Path, tmp_path: Path, tokenizer: Any
) -> None:
    settings = replace(SETTINGS, temperatures=temperatures, top_p=1.0)
    written = []
    for attempt in range(2):
        writer = OpenVinoWriter(tiny_pair / "target", concurrent=3, settings={"INFERENCE_PRECISION_HINT": "f32"})
        write_alignment_set(tmp_path / f"{attempt}", writer, PROMPTS, tokenizer, settings, inputs={})
        writer.close()
        written.append(list(read_answers(tmp_path / f"{attempt}")))
    assert written[0] == written[1]
    if temperatures == (0.0,):
        torch_writer = TransformersWriter(str(tiny_target_checkpoint), device="cpu", concurrent=5, dtype=torch.float32)
        write_alignment_set(tmp_path / "torch", torch_writer, PROMPTS, tokenizer, settings, inputs={})
        others = list(read_answers(tmp_path / "torch"))
        both = list(zip(written[0], others, strict=True))
        begun, same = ([one.answer_ids[:n] == other.answer_ids[:n] for one, other in both] for n in (1, 8))
        assert sum(begun) >= 21 and sum(same) >= 12, "greedy answers of two engines differ by rounding (fp16) at most"
        assert {row.finish for row in others} <= {"stop", "length"}


def test_an_interrupted_draw_goes_on_with_the_answers_of_an_uninterrupted_one(
    tiny_pair: Path, tmp_path: Path, tokenizer: Any
) -> None:
    settings = replace(SETTINGS, temperatures=(1.0,), shard=6)

    def write(folder: Path) -> list[Any]:
        writer = OpenVinoWriter(tiny_pair / "target", concurrent=3)
        write_alignment_set(folder, writer, PROMPTS, tokenizer, settings, inputs={})
        writer.close()
        return list(read_answers(folder))

    whole = write(tmp_path / "a")
    for path in done_shards(tmp_path / "a")[2:]:
        path.unlink()  # as a kill after the second shard leaves it
    assert write(tmp_path / "a") == whole
    assert len({tuple(row.answer_ids) for row in whole}) > 15, "draws differ from each other"


def test_the_transformers_writer_draws_by_its_seed(tiny_target_checkpoint: Path) -> None:
    writer = TransformersWriter(str(tiny_target_checkpoint), device="cpu", dtype=torch.float32)
    requests = [Request(index, (5, 6 + index), 1.0, 0.95, index, 6) for index in range(3)]
    requests += [Request(3, (9, 9, 9, 9), 0.0, 1.0, 3, 4)]
    state = torch.random.get_rng_state()
    first, second = writer.write(requests), writer.write(requests)
    assert first == second and torch.equal(state, torch.random.get_rng_state())
    assert len(first[3].token_ids) <= 4
    assert writer.write([replace(requests[0], seed=77), *requests[1:]])[0] != first[0]
    alone = writer.write(requests[3:])
    assert alone == first[3:], "padding beside others changes nothing"


def test_an_engine_that_is_not_installed_says_so(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EdgespecError, match="the engine vllm needs the package 'vllm', which is not installed here"):
        VllmWriter("somewhere")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(EdgespecError, match="generating on Ray needs the package 'ray'"):
        write_with_ray(tmp_path / "set", [], Scripted, lambda: None, inputs={}, workers=1, batch=1)
    with pytest.raises(EdgespecError, match="could not be loaded on CPU"):
        OpenVinoWriter(tmp_path)
    with pytest.raises(EdgespecError, match=r"the model .* cannot be loaded"):
        TransformersWriter(str(tmp_path / "none"))


def test_the_vllm_adapter_translates_both_ways(monkeypatch: Any) -> None:
    asked: dict[str, Any] = {}

    class Llm:
        def __init__(self, **options: Any) -> None:
            asked["made"] = options

        def generate(self, prompts: Any, parameters: Any, use_tqdm: bool) -> list[Any]:
            asked["prompts"], asked["parameters"] = prompts, parameters
            ends = ["stop", "length"]
            return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(1, 2), finish_reason=end)]) for end in ends]

    fake = ModuleType("vllm")
    fake.LLM, fake.SamplingParams = Llm, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", fake)
    writer = VllmWriter("org/target")
    requests = [Request(0, (3, 4), 0.0, 0.9, 11, 7), Request(1, (5,), 0.8, 0.9, 12, 7)]
    assert writer.write(requests) == [Answer([1, 2], "stop"), Answer([1, 2], "length")]
    assert asked["made"]["model"] == "org/target" and asked["prompts"][0] == {"prompt_token_ids": [3, 4]}
    assert [(p.temperature, p.top_p, p.seed, p.max_tokens) for p in asked["parameters"]] == [
        (0.0, 1.0, 11, 7),
        (0.8, 0.9, 12, 7),
    ]


def test_the_ray_adapter_gives_a_set_that_reads(monkeypatch: Any, tmp_path: Path, tokenizer: Any) -> None:
    """Against a stand-in that keeps Ray Data's contract: columns in, columns out, files written where it likes."""

    class Data:
        def __init__(self, rows: list[dict[str, Any]]) -> None:
            self.rows = rows

        def map_batches(self, kind: Any, *, fn_constructor_args: Any, batch_size: int, concurrency: int) -> Data:
            worker = kind(*fn_constructor_args)
            out: list[dict[str, Any]] = []
            for start in range(0, len(self.rows), batch_size):
                rows = self.rows[start : start + batch_size]
                columns = {name: [row[name] for row in rows] for name in rows[0]}
                arrays = {n: v if n == "prompt_ids" else np.array(v) for n, v in columns.items()}
                made = worker(arrays)
                out += [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
            return Data(out)

        def write_parquet(self, folder: str) -> None:
            import pyarrow
            import pyarrow.parquet

            Path(folder).mkdir()
            for number, rows in enumerate((self.rows[:10], self.rows[10:])):
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), Path(folder) / f"{number}_abc.parquet")

    fake = ModuleType("ray.data")
    fake.from_items = Data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.data", fake)
    requests = list(plan_requests(((encode(prompt, tokenizer), prompt.task) for prompt in PROMPTS), SETTINGS))
    options: dict[str, Any] = {"inputs": {"target": "t"}, "workers": 2, "batch": 5}
    shards = write_with_ray(tmp_path / "set", requests, Scripted, lambda: tokenizer, **options)
    rows = list(read_answers(tmp_path / "set"))
    assert shards == 2 and [row.index for row in rows] == list(range(23))
    _write(tmp_path / "plain", Scripted(), tokenizer)
    assert [row.answer_ids for row in rows] == [row.answer_ids for row in read_answers(tmp_path / "plain")]
    with pytest.raises(EdgespecError, match="has shards already, and Ray starts anew"):
        write_with_ray(tmp_path / "set", requests, Scripted, lambda: tokenizer, **options)


def test_top_k_is_the_same_from_the_ir_and_the_checkpoint(
    tiny_pair: Path, tiny_target_checkpoint: Path, tmp_path: Path, tokenizer: Any
) -> None:
    for name in ("ir", "torch"):
        _write(tmp_path / name, Scripted(), tokenizer)
    model = load_model(tiny_target_checkpoint, dtype=torch.float32).eval()
    assert write_top_k(tmp_path / "ir", open_model(tiny_pair / "target", "CPU", EXACT), 6) == 46
    assert write_top_k(tmp_path / "torch", TorchModel(model), 6) == 46
    assert write_top_k(tmp_path / "torch", TorchModel(model), 6) == 0, "what lies there is not made again"
    for (row, ids, log_probs), (_, other_ids, others) in zip(
        read_top_k(tmp_path / "ir"), read_top_k(tmp_path / "torch"), strict=True
    ):
        logits = model(torch.tensor([row.prompt_ids + row.answer_ids[:-1]])).logits[0, len(row.prompt_ids) - 1 :]
        expected = logits.double().log_softmax(-1).topk(6)
        np.testing.assert_array_equal(other_ids, expected.indices.numpy())
        np.testing.assert_allclose(others, expected.values.detach().numpy(), atol=1e-4)
        np.testing.assert_allclose(log_probs, others, atol=0.02)  # the IR's weights are fp16
        assert ids.shape == (2, 6)
    shard_path(tmp_path / "ir", 2, "topk").unlink()
    with pytest.raises(EdgespecError, match="distributions for 2 of 3 shards; run edgespec train generate again"):
        list(read_top_k(tmp_path / "ir"))
    with pytest.raises(EdgespecError, match="must lie between 1 and the vocabulary's 320, not 321"):
        write_top_k(tmp_path / "torch", TorchModel(model), 321)


def test_top_k_by_hand() -> None:
    ids, log_probs = top_k(np.log(np.array([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4]], np.float32)) + 3, 2)
    assert ids.tolist() == [[1, 2], [0, 2]]
    np.testing.assert_allclose(np.exp(log_probs), [[0.6, 0.3], [0.5, 0.4]], rtol=1e-6)


def test_prompts_of_every_kind_of_file(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    assert [prompt.text for prompt in read_prompts(str(tmp_path / "a.txt"))] == ["one", "two"]
    records = [
        {"prompt": "p", "category": "code"},
        {"instruction": "do", "input": "this"},
        {"instruction": "do", "input": " "},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]},
        {"conversations": [{"from": "human", "value": "ho"}]},
        {"turns": ["first", "second"]},
        {"text": "  "},
    ]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    found = list(read_prompts(str(tmp_path / "b.jsonl")))
    assert [prompt.text for prompt in found] == ["p", "do\n\nthis", "do", "hi", "ho", "first"]
    assert [prompt.chat for prompt in found] == [None, None, None, True, True, True] and found[0].task == "code"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"q": "x"}, {"q": "y"}]), tmp_path / "c.parquet")
    assert [prompt.text for prompt in read_prompts(str(tmp_path / "c.parquet"), column="q")] == ["x", "y"]


def test_a_dataset_of_the_hub_is_streamed(monkeypatch: Any) -> None:
    import datasets

    asked: list[Any] = []

    def load(name: str, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, split, streaming))
        if name == "none":
            raise ConnectionError("no network")
        return [{"instruction": "a"}, {"instruction": "b"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [prompt.text for prompt in read_prompts("hf:org/set:test")] == ["a", "b"]
    assert asked == [("org/set", "test", True)]
    with pytest.raises(EdgespecError, match="the dataset 'hf:none' cannot be read: no network"):
        list(read_prompts("hf:none"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", "\n \n", "holds no prompt"),
        ("a.jsonl", "{broken\n", "line 1 is not JSON"),
        ("a.jsonl", "[1]\n", "is no object"),
        ("a.jsonl", '{"other": 1}\n', "has no text under prompt, instruction, .* name its column with --column"),
        ("a.jsonl", '{"turns": [{"role": "assistant", "content": "x"}]}\n', "no user says anything"),
        ("a.parquet", "no parquet", "no readable parquet file"),
    ],
)
def test_prompts_that_are_none_are_a_sentence(name: str, content: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(EdgespecError, match=sentence):
        list(read_prompts(str(tmp_path / name)))


def test_other_refusals_of_prompts(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(EdgespecError, match=r"is no file; give a \.txt, \.jsonl or \.parquet file, or hf:NAME"):
        list(read_prompts("nowhere"))
    (tmp_path / "l.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(EdgespecError, match=r"is not UTF-8 text \(byte 3\)"):
        list(read_prompts(str(tmp_path / "l.txt")))
    (tmp_path / "c.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(EdgespecError, match="has no text under 'q'; it has a"):
        list(read_prompts(str(tmp_path / "c.jsonl"), column="q"))
    with pytest.raises(EdgespecError, match="this target has no chat template, and a prompt is a chat"):
        encode(Prompt("hi", chat=True), tokenizer)
    with pytest.raises(EdgespecError, match="no prompt was left to answer: all are empty or longer than 2 tokens"):
        settings = replace(SETTINGS, longest_prompt=2)
        write_alignment_set(tmp_path / "set", Scripted(), PROMPTS, tokenizer, settings, inputs={})
    for wrong, sentence in (
        ({"temperatures": ()}, "temperatures must lie between"),
        ({"top_p": 0.0}, "top_p must lie above 0"),
        ({"shard": 0}, "shard must be at least 1"),
    ):
        with pytest.raises(EdgespecError, match=sentence):
            Settings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(EdgespecError, match="no document has more than 96 tokens"):
        cut_prompts([[1, 2, 3]], 1, 48, 64, 0)


def test_the_chat_template_is_applied_where_there_is_one(chat_tokenizer: Any, tokenizer: Any) -> None:
    said = chat_tokenizer.decode(encode(Prompt("add it"), chat_tokenizer))
    assert said == "<user>add it</user>\n<bot>"
    assert tokenizer.decode(encode(Prompt("add it"), tokenizer)) == "add it"
    assert chat_tokenizer.decode(encode(Prompt("add it", chat=False), chat_tokenizer)) == "add it"


def test_magpie_lets_the_target_write_the_request(chat_tokenizer: Any, tokenizer: Any, tmp_path: Path) -> None:
    assert magpie_prefix(chat_tokenizer) == ("<user>", "</user>\n")
    assert magpie_prefix(tokenizer) == ("<|endoftext|>", "")
    assert written_request("sort a list</user>\n<bot>sure", "</user>\n") == "sort a list"

    class Magpie(Scripted):
        def write(self, requests: Sequence[Request]) -> list[Answer]:
            texts = [f" print({request.index % 5})</user>\nleft over" for request in requests]
            return [Answer(list(chat_tokenizer(text)["input_ids"]), "length") for text in texts]

    found = list(
        write_own_prompts(tmp_path / "prompts", Magpie(), chat_tokenizer, 12, replace(SETTINGS, shard=4), inputs={})
    )
    assert [prompt.text for prompt in found] == [f"print({index})" for index in range(5)], "repeats are dropped"
    assert all(prompt.chat and prompt.task == "self-written" for prompt in found)
    assert next(iter(read_answers(tmp_path / "prompts"))).prompt == "<user>"

    class Silent(Scripted):
        def write(self, requests: Sequence[Request]) -> list[Answer]:
            return [Answer(list(chat_tokenizer("</user>")["input_ids"]), "stop") for _ in requests]

    with pytest.raises(EdgespecError, match="the target wrote no request of its own"):
        list(write_own_prompts(tmp_path / "b", Silent(), chat_tokenizer, 3, SETTINGS, inputs={}))
    chat_tokenizer.chat_template = "nothing of it"
    with pytest.raises(EdgespecError, match="hides what the user says"):
        magpie_prefix(chat_tokenizer)


def test_prompts_are_cut_from_the_documents() -> None:
    documents = [list(range(100)), list(range(200, 230)), [1]]
    for prompt in cut_prompts(documents, count=50, shortest=5, longest=20, seed=0):
        assert 5 <= len(prompt) <= 20
        assert prompt == list(range(prompt[0], prompt[0] + len(prompt)))
