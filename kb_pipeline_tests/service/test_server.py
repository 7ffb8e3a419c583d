"""`kb serve`: a process of its own, which follows what is published and ends what runs before it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from kb_pipeline.cli.app import app
from kb_pipeline.errors import UsageError
from kb_pipeline.settings import as_environment
from kb_pipeline_tests.operations.home import Home, quick_refreshes
from kb_pipeline_tests.service.serving import API, DOCS, key_of, served
from kb_pipeline_tests.site import plant_orchard, serve_site


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_home_is_served_until_it_is_told_to_end(two_tenants: Home, workers: str) -> None:
    headers = {"Authorization": f"Bearer {key_of(two_tenants)}"}
    with served(two_tenants, "--workers", workers) as (address, process):
        found = httpx2.get(f"{address}{API}/kbs/acme.docs/search", params={"q": "apples"}, headers=headers, timeout=60)
        assert found.json()["hits"][0]["title"] == "Apples"
        assert "server" not in found.headers
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


def test_a_version_that_is_published_is_served_within_a_second(tmp_path: Path, models_dir: Path) -> None:
    home = Home(tmp_path / "home", models_dir)
    with serve_site() as orchard, quick_refreshes():
        plant_orchard(orchard)
        home.apply(orchard, DOCS)
        assert home.refresh(DOCS).version == 1
        headers = {"Authorization": f"Bearer {key_of(home)}"}
        with served(home) as (address, _), httpx2.Client(base_url=f"{address}{API}/kbs/acme.docs") as client:
            client.headers.update(headers)
            assert client.get("/search", params={"q": "slivovitz"}, timeout=60).json()["version"] == 1
            orchard.put("/plums", "Plums", "Plums are distilled into a clear brandy that is called slivovitz.")
            assert home.refresh(DOCS).version == 2
            now = client.get("/search", params={"q": "slivovitz", "mode": "keyword"}).json()
            assert (now["version"], now["hits"][0]["title"]) == (2, "Plums")
            before = client.get("/search", params={"q": "slivovitz", "mode": "keyword", "as_of": 1}).json()
            assert (before["version"], before["hits"]) == (1, [])


def test_an_address_that_is_taken_is_one_line(two_tenants: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = subprocess.run(
            [sys.executable, "-m", "kb_pipeline", "serve", "--port", str(taken.getsockname()[1])],
            env=os.environ | as_environment(two_tenants.settings), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "cannot be listened on" in ended.stderr


@pytest.mark.parametrize("proxies", ["0.0.0.0/0", "::/0", "*", "", "proxy.example", "10.0.0.1/8"])
def test_only_named_proxies_are_believed(proxies: str, home: Path) -> None:
    refused = CliRunner().invoke(app, ["serve", "--proxy-headers", "--forwarded-allow-ips", proxies])
    assert isinstance(refused.exception, UsageError)
    assert "addresses and networks of proxies" in str(refused.exception)
