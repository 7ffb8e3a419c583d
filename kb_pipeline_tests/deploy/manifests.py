"""The manifests of deploy/kubernetes, as they would be applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
MANIFESTS: dict[Path, list[dict[str, Any]]] = {
    path: list(yaml.safe_load_all(path.read_text())) for path in sorted(FOLDER.rglob("*.yaml"))
}
WORKLOADS = {
    manifest["metadata"]["name"]: manifest
    for manifests in MANIFESTS.values()
    for manifest in manifests
    if manifest["kind"] in ("Deployment", "StatefulSet")
}


def named(kind: str, name: str) -> dict[str, Any]:
    """Return the only manifest of that kind and name."""
    [found] = [
        manifest
        for manifests in MANIFESTS.values()
        for manifest in manifests
        if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)
    ]
    return found


def container_of(workload: str) -> dict[str, Any]:
    """Its only container."""
    [container] = WORKLOADS[workload]["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(workload: str) -> dict[str, str]:
    """Return the environment of its container, without secrets."""
    container = container_of(workload)
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            environment |= named("ConfigMap", source["configMapRef"]["name"])["data"]
    return environment | {item["name"]: item["value"] for item in container.get("env", [])}
