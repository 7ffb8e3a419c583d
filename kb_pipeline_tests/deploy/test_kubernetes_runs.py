"""Runs as Kubernetes jobs, launched as the manifests say, against a stand-in for Kubernetes' API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kb_pipeline.defs.launch_settings import LAUNCH_VARIABLES
from kb_pipeline.settings import VARIABLES
from kb_pipeline_tests.deploy.json_api import serve_json
from kb_pipeline_tests.deploy.manifests import container_of, environment_of, named
from kb_pipeline_tests.deploy.roles import Roles, apply_kb, play_roles

pytestmark = pytest.mark.upgrade("dagster")

VERBS = {"GET": "get", "POST": "create", "DELETE": "delete"}


class Api:
    """Keeps the jobs that are made; `calls` are (verb, resource), as a role allows them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.calls: set[tuple[str, str]] = set()

    def answer(self, method: str, path: str, _query: object, body: Any) -> tuple[int, Any]:
        [(resource, name, below)] = re.findall(r"/namespaces/kb/(\w+)(?:/([\w-]+)(?:/(\w+))?)?$", path)
        verb = "list" if method == "GET" and not name else VERBS[method]
        self.calls.add((verb, f"{resource}/{below}" if below else resource))
        if method == "POST":
            self.jobs[body["metadata"]["name"]] = body
            return 201, body
        if method == "DELETE":
            return 200, self.jobs.pop(name)
        if not name:
            return 200, {"items": []}
        return (200, self.jobs[name] | {"status": {"active": 1}}) if name in self.jobs else (404, {"code": 404})


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    api = Api()
    with serve_json(api.answer) as port:
        _use_cluster(f"http://127.0.0.1:{port}", tmp_path / "kubeconfig", monkeypatch)
        yield api


def _use_cluster(url: str, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    }
    kubeconfig.write_text(yaml.safe_dump(config))
    # The client reads KUBECONFIG when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))


@pytest.fixture
def roles(home: Path, monkeypatch: pytest.MonkeyPatch, api: Api, fresh_postgres: str) -> Iterator[Roles]:
    """Start the daemon of the manifest, on another home and database."""
    for name, value in environment_of("daemon").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KB_DATABASE_URL_FILE")
    monkeypatch.setenv("KB_DATABASE_URL", fresh_postgres)
    monkeypatch.setenv("KB_HOME", str(home))
    volumes = environment_of("daemon")["KB_RUN_VOLUMES"].replace(":/data,", f":{home},")
    monkeypatch.setenv("KB_RUN_VOLUMES", volumes)
    with play_roles() as roles:
        apply_kb("http://site.example")
        yield roles


def test_a_run_becomes_a_valid_job_that_has_what_it_needs_and_no_more(
    roles: Roles, api: Api, home: Path, fresh_postgres: str
) -> None:
    run_id = roles.launch()
    roles.dequeue()
    [job] = api.jobs.values()
    kubernetes_validate.validate(job, "1.37", strict=True)
    assert fresh_postgres not in json.dumps(job)
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["args"][:3] == ["dagster", "api", "execute_run"]
    assert container["image"] == container_of("daemon")["image"]

    # Its settings are those of the roles: by reference, but that it launches nothing itself.
    assert {"KB_RUN_LAUNCHER": "elsewhere"}.items() <= {e["name"]: e["value"] for e in container["env"]}.items()
    assert not set(LAUNCH_VARIABLES) - {"KB_RUN_LAUNCHER"} & {e["name"] for e in container["env"]}
    [settings] = [source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source]
    assert set(named("ConfigMap", settings)["data"]) <= set(VARIABLES)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {str(home), "/run/secrets/kb", "/tmp"}
    claimed = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert claimed == [named("PersistentVolumeClaim", "kb-home")["metadata"]["name"]]

    # It is as locked up as the roles, and has no account with Kubernetes.
    assert container["securityContext"] == container_of("code")["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == named("ServiceAccount", "kb-run")["metadata"]["name"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4096Mi"}
    assert job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/part-of"] == "kb-pipeline"

    assert roles.instance.run_launcher.check_run_worker_health(roles.run(run_id)).status.value == "RUNNING"
    assert roles.instance.run_launcher.terminate(run_id)
    assert not api.jobs


def test_the_daemons_role_allows_what_launching_asks_of_kubernetes(roles: Roles, api: Api) -> None:
    run_id = roles.launch()
    roles.dequeue()
    roles.instance.run_launcher.check_run_worker_health(roles.run(run_id))
    roles.instance.run_launcher.get_run_worker_debug_info(roles.run(run_id))
    roles.instance.run_launcher.terminate(run_id)
    allowed = {
        (verb, resource)
        for rule in named("Role", "kb-launcher")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert api.calls <= allowed
    assert {("create", "jobs"), ("get", "jobs/status"), ("delete", "jobs"), ("list", "pods")} <= api.calls
    assert {resource for _, resource in allowed} == {"jobs", "jobs/status", "pods", "pods/log", "events"}


def test_no_tag_turns_the_pod_into_another(roles: Roles, api: Api) -> None:
    hostile = {"pod_spec_config": {"host_network": True}, "container_config": {"image": "evil.example/miner"}}
    run_id = roles.launch({"dagster-k8s/config": json.dumps(hostile)})
    roles.dequeue()
    assert not api.jobs
    assert roles.run(run_id).status.value == "FAILURE"
