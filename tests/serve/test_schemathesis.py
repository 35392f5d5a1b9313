"""schemathesis asks what /openapi.json says may be asked, and what it says may not: no answer is a 500, every answer is
one of those the document tells of, in the shape it tells."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from scripted_server import Live

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        ("/v1/chat/completions", POSITIVE),
        ("/v1/chat/completions", NEGATIVE),
        ("/v1/completions", POSITIVE),
        ("/v1/completions", NEGATIVE),
        ("/v1/models/{model}", POSITIVE),
        ("/v1/models", POSITIVE),
        ("/health", POSITIVE),
        ("/metrics", POSITIVE),
    ],
)
def test_no_request_that_the_document_allows_or_forbids_is_a_server_error(
    chat_server: Live, operation: str, mode: schemathesis.GenerationMode
) -> None:
    document = httpx.get(f"{chat_server.url}/openapi.json").json()
    for request in ("ChatRequest", "CompletionRequest"):  # short answers: what is asked is the subject
        fields = document["components"]["schemas"][request]["properties"]
        for name in {"max_tokens", "max_completion_tokens"} & fields.keys():
            fields[name] = {"type": "integer", "minimum": 1, "maximum": 4}
        document["components"]["schemas"][request]["required"].append("max_tokens")
    schema = schemathesis.openapi.from_dict(document)
    method = "POST" if operation.endswith("completions") else "GET"
    tried = 0

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[operation][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        nonlocal tried
        tried += 1
        case.call_and_validate(base_url=chat_server.url, checks=CHECKS, timeout=60)

    check()
    assert tried >= 1
    assert httpx.get(f"{chat_server.url}/health").status_code == 200
