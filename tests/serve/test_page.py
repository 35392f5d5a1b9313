"""The page at /, driven in a headless Chromium: a chat, the draft's tokens tinted, live tokens/s, Stop; and nothing in
it that comes from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import Browser
from scripted_server import Live, ScriptedBackend, live

from edgespec.serve import Access, Served


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def send(browser: Browser, words: str) -> None:
    browser.run(
        f"document.getElementById('words').value = {json.dumps(words)}; document.getElementById('send').click()"
    )


def test_a_chat_streams_tints_counts_and_stops(browser: Browser) -> None:
    backend = ScriptedBackend(steps=6)
    with live(backend) as server:
        browser.open(server.url)
        browser.until("document.title === 'tiny' && !document.getElementById('send').disabled")
        assert browser.run("document.getElementById('talk').dataset.hint") == "Ask something."
        send(browser, "hello <b>there</b>")
        browser.until("document.querySelectorAll('.turn').length === 2 && document.querySelectorAll('mark').length > 3")
        assert browser.run("document.querySelectorAll('.turn div')[0].innerHTML") == "hello &lt;b&gt;there&lt;/b&gt;"
        assert browser.run("document.querySelectorAll('.turn div')[1].innerHTML") == "a<mark>a</mark>" * 3
        browser.until("document.getElementById('figures').textContent.includes(' 6 tokens')")
        figures = browser.run("document.getElementById('figures').textContent")
        assert re.fullmatch(r"\d+\.\d tokens/s · 6 tokens, 50 % from the draft", figures)
        assert (
            browser.run("getComputedStyle(document.querySelector('.turn mark')).backgroundColor") != "rgba(0, 0, 0, 0)"
        )
        browser.run("document.getElementById('stop').click()")
        browser.until("document.getElementById('figures').textContent.endsWith('stopped')")
        browser.until("document.getElementById('stop').disabled && !document.getElementById('send').disabled")
        assert backend.answers[0].cancelled and backend.computed == 6
        backend.steps = 1_000_000
        browser.run("document.getElementById('tokens').value = 3")
        send(browser, "more")
        browser.until("document.querySelectorAll('.turn').length === 4 && document.getElementById('stop').disabled")
        assert backend.answers[1].prompt == "hello <b>there</b>aaaaaamore", "what was said before goes along"
        assert "3 tokens" in browser.run("document.getElementById('figures').textContent")
        browser.run("document.getElementById('new').click()")
        assert browser.run("document.querySelectorAll('.turn').length") == 0
    assert browser.problems == []


def test_new_during_an_answer_begins_anew(browser: Browser) -> None:
    backend = ScriptedBackend(steps=4)
    with live(backend) as server:
        browser.open(server.url)
        browser.until("document.title === 'tiny' && !document.getElementById('send').disabled")
        send(browser, "old")
        browser.until("document.getElementById('figures').textContent.includes(' 4 tokens')")
        browser.run("document.getElementById('new').click()")
        browser.until("document.getElementById('stop').disabled && !document.getElementById('send').disabled")
        assert browser.run("document.getElementById('figures').textContent") == ""
        backend.steps = 1_000_000
        browser.run("document.getElementById('tokens').value = 3")
        send(browser, "new")
        browser.until("document.querySelectorAll('.turn').length === 2 && document.getElementById('stop').disabled")
        assert backend.answers[0].cancelled and backend.answers[1].prompt == "new"
    assert browser.problems == []


def test_a_server_that_refuses_is_quoted_and_one_with_a_key_asks_for_it(browser: Browser) -> None:
    key = "a-long-enough-key-for-tests"
    with live(ScriptedBackend(), access=Access(api_key=key)) as server:
        browser.open(server.url)
        browser.until("!document.getElementById('key-row').hidden")
        browser.run(f"document.getElementById('key').value = '{key}'; meet()")
        browser.until("document.title === 'tiny' && !document.getElementById('send').disabled")
        send(browser, "refuse")
        browser.until("document.querySelector('.wrong') !== null")
        assert browser.run("document.querySelector('.wrong').textContent") == "this cannot be done; do another thing"


def test_a_model_that_continues_text_does(browser: Browser, bundled_server: Live, tmp_path: Path) -> None:
    with live(bundled_server.service.backend, Served("bundled")) as server:
        browser.open(server.url)
        browser.until("!document.getElementById('send').disabled")
        assert browser.run("document.getElementById('send').textContent") == "Continue"
        browser.run("document.getElementById('tokens').value = 48")
        send(browser, "def fibonacci(n):\n")
        browser.until("document.getElementById('figures').textContent.includes(' 48 tokens')")
        browser.until("document.getElementById('stop').disabled")
        assert browser.run("document.querySelector('.turn div').textContent").startswith("def fibonacci(n):\n")
        assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        browser.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
    assert browser.problems == []


def test_nothing_comes_from_elsewhere_and_the_policy_says_so() -> None:
    with live(ScriptedBackend()) as server:
        reply = httpx.get(server.url)
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", reply.text) and "http" not in re.sub(
        r"httpx?-equiv", "", reply.text
    )
    assert "style=" not in reply.text and "onclick" not in reply.text
