"""KServe: a runtime that starts OVMS on the repository, and a service that names the repository and what it needs."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import yaml

from edgespec.errors import EdgespecError

RUNTIME = "edgespec-ovms"
FORMAT = "edgespec-pair"
_SLACK_BYTES = 1_000_000_000
"""For the server itself, tokenizers and requests in flight."""


def resource_name(name: str) -> str:
    """As Kubernetes takes it (RFC 1123). Raises EdgespecError when nothing is left of it."""
    found = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:53].strip("-")
    if not found or not found[0].isalpha():
        raise EdgespecError(f"'{name}' makes no name for Kubernetes, which begins with a letter; give another --name")
    return found


def serving_runtime(name: str, release: str, devices: Collection[str], arguments: tuple[str, ...]) -> dict[str, Any]:
    """name: of the served model, whose runtime it is alone. devices: of target and draft."""
    image = f"openvino/model_server:{release}" + ("" if set(devices) == {"CPU"} else "-gpu")
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": f"{RUNTIME}-{resource_name(name)}"},
        "spec": {
            "annotations": {"prometheus.kserve.io/path": "/metrics", "prometheus.kserve.io/port": "8080"},
            "supportedModelFormats": [{"name": FORMAT, "version": "1", "autoSelect": False}],
            "protocolVersions": ["v2", "grpc-v2"],
            "containers": [
                {
                    "name": "kserve-container",
                    "image": image,
                    "args": [
                        "--config_path=/mnt/models/config.json",
                        "--port=9000",
                        "--rest_port=8080",
                        "--file_system_poll_wait_seconds=0",
                        *arguments,
                    ],
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "startupProbe": {
                        "httpGet": {"path": "/v2/health/ready", "port": 8080},
                        "periodSeconds": 5,
                        "failureThreshold": 360,
                    },
                    "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}, "periodSeconds": 10},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "privileged": False,
                        "runAsNonRoot": True,
                        "runAsUser": 5000,
                    },
                }
            ],
        },
    }


def inference_service(name: str, storage_uri: str, memory_bytes: int, devices: Collection[str]) -> dict[str, Any]:
    """storage_uri: where the repository was uploaded to, config.json at its root. The API key is the secret
    NAME-api-key, where there is one."""
    resource = resource_name(name)
    memory = f"{-(-(memory_bytes + _SLACK_BYTES) // 10**9)}G"
    amounts = {"cpu": "4", "memory": memory} | (
        {"gpu.intel.com/i915": "1"} if any(device.startswith("GPU") for device in devices) else {}
    )
    secret = {"name": f"{resource}-api-key", "key": "API_KEY", "optional": True}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": resource},
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "model": {
                    "runtime": f"{RUNTIME}-{resource}",
                    "modelFormat": {"name": FORMAT, "version": "1"},
                    "storageUri": storage_uri,
                    "env": [{"name": "API_KEY", "valueFrom": {"secretKeyRef": secret}}],
                    "resources": {"requests": amounts, "limits": dict(amounts)},
                },
            }
        },
    }


def as_yaml(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, width=120)
    return text
