"""edgespec serve PAIR"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Terminal
from ..errors import EdgespecError
from ..stages import load_stage

KEY_VARIABLE = "EDGESPEC_API_KEY"


def run(
    pair: Annotated[Path, typer.Argument(help="A pair directory.")],
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="The model's id for clients; unless given, the directory's name.")
    ] = None,
    device: Annotated[str, typer.Option(help="AUTO, CPU, GPU, NPU, ... (see: edgespec devices)")] = "AUTO",
    draft_device: Annotated[str | None, typer.Option(help="The draft's device, where it is another.")] = None,
    mode: Annotated[str, typer.Option(help="auto, plain, draft, lookup, native-draft, native-copy, ...")] = "auto",
    batch: Annotated[
        int | None,
        typer.Option(min=2, help="Write so many answers at once, without the draft; unless given, one after another."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Answer chats without a chat template, as one growing text.")
    ] = False,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of requests that name none.")] = 1.0,
    api_key_file: Annotated[
        Path | None, typer.Option(help=f"File whose first line is the API key; the variable {KEY_VARIABLE} does too.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name by which clients call this server; may be repeated.")
    ] = None,
    max_waiting: Annotated[int, typer.Option(help="Requests in line; one more gets 429.")] = 64,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(help="Unless given, what the model's context allows.")
    ] = None,
    max_answer_tokens: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 2048,
    max_body_bytes: Annotated[int, typer.Option(help="Bytes of a request at most.")] = 1_000_000,
    queue_timeout: Annotated[float, typer.Option(help="Seconds a request may wait for its turn.")] = 120.0,
    answer_timeout: Annotated[float, typer.Option(help="Seconds an answer may take.")] = 600.0,
    grace: Annotated[float, typer.Option(help="Seconds that running answers get to finish at shutdown.")] = 10.0,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Prompts and answers go to the log too.")] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON document once the model is ready.")
    ] = False,
) -> None:
    """An OpenAI-compatible server over a pair, and a page to try it with; Ctrl-C ends it.

    Clients use http://127.0.0.1:8000/v1 as their base URL and the pair's name as model. Ctrl-C and SIGTERM let answers
    finish (--grace) and close the models; the exit code is 0 then, 130 when a second Ctrl-C cut that short.
    """
    from ..pair import read_manifest

    stage = load_stage("serve")
    terminal = Terminal(json_output)
    read_manifest(pair)
    served = stage.Served(name or pair.resolve().name, raw_chat=raw, temperature=temperature, log_prompts=log_prompts)
    access = stage.Access(host, read_key(api_key_file), tuple(allow_host or ()))
    limits = stage.Limits(
        waiting=max_waiting,
        body_bytes=max_body_bytes,
        prompt_tokens=max_prompt_tokens,
        answer_tokens=max_answer_tokens,
        queue_s=queue_timeout,
        answer_s=answer_timeout,
        grace_s=grace,
    )
    if batch is not None and (mode != "auto" or draft_device is not None):
        raise EdgespecError("--batch decodes plainly, without a draft; leave out --mode and --draft-device, or --batch")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    listening = stage.bind(host, port)
    url = stage.url_of(listening)

    def backend() -> Any:
        if batch is not None:
            return stage.Batched(pair, batch, device=device)
        return stage.InTurn(pair, device=device, draft_device=draft_device, mode=mode)

    def ready(opened: Any) -> None:
        terminal.say(opened.explain())
        terminal.say(f"'{served.name}' is ready: {url} (a page to try it with), {url}/v1 (OpenAI's API)")
        terminal.answer({"url": url, "base_url": f"{url}/v1", "model": served.name, "pid": os.getpid()})

    terminal.say(f"loading '{served.name}', {url}")
    stage.serve(backend, pair, listening, served=served, access=access, limits=limits, on_ready=ready)
    terminal.say(f"'{served.name}' has ended")


def read_key(file: Path | None) -> str | None:
    """The API key, from a file or the environment: on a command line, every program of the machine could read it."""
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgespecError(f"the API key file '{file}' cannot be read: {error}") from error
    if not lines or not lines[0].strip():
        raise EdgespecError(f"the API key file '{file}' is empty; its first line is the key")
    return lines[0].strip()
