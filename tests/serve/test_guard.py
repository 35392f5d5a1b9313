"""Who is let in: by key, by the name they call, by the page they come from; and what a server refuses to start as."""

from __future__ import annotations

import httpx
import pytest
from scripted_server import ScriptedBackend, live

from edgespec.errors import EdgespecError
from edgespec.serve import Access, Limits

KEY = "a-long-enough-key-for-tests"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("127.0.0.1", 200), ("127.9.9.9:1", 200), ("[::1]:8000", 200), ("LOCALHOST.:80", 200),
        ("box.example", 200), ("evil.example", 421), ("localhost.evil.example", 421), ("10.0.0.5", 421), ("", 421),
        ("localhost@evil.example", 421), ("localhost:port", 421), ("[::1", 421),
    ],
)  # fmt: skip
def test_only_names_of_this_server_pass(host: str, status: int) -> None:
    with live(ScriptedBackend(), access=Access(hosts=("box.example",))) as server:
        reply = httpx.get(f"{server.url}/v1/models", headers={"Host": host})
        assert reply.status_code == status
        if status == 421:
            assert "--allow-host" in reply.json()["error"]["message"]


def test_pages_of_other_origins_are_refused_and_no_cors_header_is_sent() -> None:
    with live(ScriptedBackend()) as server:
        for origin in ("http://evil.example", "null", "http://[", f"http://127.0.0.1:{server.port + 1}"):
            reply = httpx.get(f"{server.url}/v1/models", headers={"Origin": origin})
            assert reply.status_code == 403 and reply.json()["error"]["code"] == "wrong_origin"
        asked = httpx.options(
            f"{server.url}/v1/completions",
            headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        )
        own = httpx.get(f"{server.url}/v1/models", headers={"Origin": server.url})
        assert own.status_code == 200
        assert not any(name.startswith("access-control") for reply in (asked, own) for name in reply.headers)


def test_the_key_is_asked_for_and_compared_whole() -> None:
    with live(ScriptedBackend(), access=Access(api_key=KEY)) as server:
        for shown in (None, "Bearer wrong", f"Bearer {KEY[:-1]}", f"Basic {KEY}", f"Bearer {KEY} {KEY}", "Bearer é"):
            headers = {} if shown is None else {"Authorization": shown.encode("latin-1")}
            reply = httpx.get(f"{server.url}/v1/models", headers=headers)
            assert reply.status_code == 401 and reply.headers["www-authenticate"] == "Bearer", shown
            assert reply.json()["error"]["type"] == "authentication_error"
            assert httpx.get(f"{server.url}/metrics", headers=headers).status_code == 401
        right = {"Authorization": f"Bearer {KEY}"}
        assert httpx.get(f"{server.url}/v1/models", headers=right).status_code == 200
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert httpx.get(f"{server.url}/openapi.json").json()["security"] == [{"key": []}]


def test_another_address_than_loopback_needs_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "myhost"):
        with pytest.raises(EdgespecError, match="can be reached from other machines, and no API key was given"):
            Access(host)
        assert not Access(host, api_key=KEY).loopback
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert Access(host).loopback


@pytest.mark.parametrize(
    "key", ["short", "has blanks in the middle", "ends-in-a-umlaut-ä-here", "line\nbreak-line-break"]
)
def test_a_key_that_could_be_guessed_or_not_be_sent_is_refused(key: str) -> None:
    with pytest.raises(EdgespecError, match="at least 16 printable ASCII characters"):
        Access(api_key=key)


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(EdgespecError, match="the limit waiting must be at least 1, not 0"):
        Limits(waiting=0)
    with pytest.raises(EdgespecError, match="the limit answer_s must be above 0 seconds"):
        Limits(answer_s=float("nan"))
    with pytest.raises(EdgespecError, match="the limit grace_s must be 0 seconds or more"):
        Limits(grace_s=-1)
