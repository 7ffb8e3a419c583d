"""deploy/kubernetes: valid, and at one with Compose, the image and the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kb_pipeline.defs.launch_settings import LAUNCH_VARIABLES
from kb_pipeline.settings import VARIABLES
from kb_pipeline_tests.deploy.manifests import FOLDER, MANIFESTS, WORKLOADS, container_of, environment_of, named

COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text())["services"]
ROLES = {"code", "webserver", "viewer", "api", "daemon"}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_valid_to_the_letter(path: Path) -> None:
    for manifest in MANIFESTS[path]:
        kubernetes_validate.validate(manifest, "1.37", strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "kb"


def test_the_roles_are_those_of_compose_with_the_same_commands_and_one_image() -> None:
    assert set(WORKLOADS) == ROLES | {"postgres"}
    for role in ROLES:
        assert container_of(role)["args"] == COMPOSE[role]["command"], role
    images = {container_of(role)["image"] for role in ROLES} | {environment_of("daemon")["KB_RUN_IMAGE"]}
    assert len(images) == 1
    assert container_of("postgres")["image"] == COMPOSE["postgres"]["image"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_pod_is_watched_limited_and_locked_up(name: str) -> None:
    """What the namespace's label, restricted, demands of every pod, and more."""
    pod, container = WORKLOADS[name]["spec"]["template"]["spec"], container_of(name)
    assert {"readinessProbe", "livenessProbe"} <= set(container)
    assert set(container["resources"]["limits"]) == set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(COMPOSE[name]["user"].split(":")[0])
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("name", WORKLOADS)
def test_only_the_daemon_gets_a_token_of_kubernetes(name: str) -> None:
    pod = WORKLOADS[name]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is (name == "daemon")
    [subject] = named("RoleBinding", "kb-launcher")["subjects"]
    assert (pod.get("serviceAccountName") == subject["name"]) == (name == "daemon")


def test_every_variable_is_known_to_the_settings() -> None:
    assert set(named("ConfigMap", "kb-settings")["data"]) <= set(VARIABLES)
    for role in ROLES:
        assert set(environment_of(role)) <= set(VARIABLES) | set(LAUNCH_VARIABLES), role
        assert role == "daemon" or environment_of(role)["KB_RUN_LAUNCHER"] == "elsewhere"


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_finds_its_home_and_its_secret_where_its_settings_say(role: str) -> None:
    pod, environment = WORKLOADS[role]["spec"]["template"]["spec"], environment_of(role)
    mounts = {mount["mountPath"]: mount["name"] for mount in container_of(role)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claim = volumes[mounts[environment["KB_HOME"]]]["persistentVolumeClaim"]["claimName"]
    assert named("PersistentVolumeClaim", claim)
    file = Path(environment["KB_DATABASE_URL_FILE"])
    secret = volumes[mounts[str(file.parent)]]["secret"]
    assert file.name in {item["path"] for item in secret["items"]}
    assert {item["key"] for item in secret["items"]} <= set(named("Secret", secret["secretName"])["stringData"])


def test_secrets_are_a_template_apart() -> None:
    assert {path.parent.name for path, manifests in MANIFESTS.items() for m in manifests if m["kind"] == "Secret"} == {
        "secrets"
    }
    assert not any(re.search(r"PASSWORD$|DATABASE_URL$", name) for role in WORKLOADS for name in environment_of(role))


def test_what_leads_to_a_pod_is_allowed_by_name_only() -> None:
    policies = [m for manifests in MANIFESTS.values() for m in manifests if m["kind"] == "NetworkPolicy"]
    [closed] = [policy for policy in policies if policy["spec"]["podSelector"] == {} and "egress" not in policy["spec"]]
    assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"]
            assert rule["ports"]


def test_services_lead_to_ports_that_pods_have() -> None:
    services = [m for manifests in MANIFESTS.values() for m in manifests if m["kind"] == "Service"]
    assert {service["metadata"]["name"] for service in services} == {"api", "code", "postgres", "viewer", "webserver"}
    for service in services:
        name = service["metadata"]["name"]
        assert service["spec"]["selector"].items() <= WORKLOADS[name]["spec"]["template"]["metadata"]["labels"].items()
        [port] = service["spec"]["ports"]
        assert port["port"] in {p["containerPort"] for p in container_of(name)["ports"]}
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"  # nothing is published
