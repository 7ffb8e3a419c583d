"""One home of two tenants for all tests of the service that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import kb_pipeline
from kb_pipeline.installation import Installation
from kb_pipeline_tests.operations.home import Home, quick_refreshes
from kb_pipeline_tests.service.serving import DOCS, THEIRS, Client, in_process, key_of
from kb_pipeline_tests.site import Site, plant_orchard, serve_site


@pytest.fixture(scope="package")
def orchard() -> Iterator[Site]:
    with serve_site() as site:
        plant_orchard(site)
        yield site


@pytest.fixture(scope="package")
def two_tenants(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, orchard: Site) -> Home:
    home = Home(tmp_path_factory.mktemp("service") / "home", models_dir)
    with quick_refreshes():
        for key in (DOCS, THEIRS):
            home.apply(orchard, key)
            assert home.refresh(key).status == "ready"
    return home


@pytest.fixture(scope="package")
def api(two_tenants: Home) -> Iterator[Installation]:
    with kb_pipeline.open(settings=two_tenants.settings) as opened:
        yield opened


@pytest.fixture(scope="package")
def http(two_tenants: Home) -> Iterator[TestClient]:
    with in_process(two_tenants) as opened:
        yield opened


@pytest.fixture(scope="package")
def acme(two_tenants: Home, http: TestClient) -> Client:
    return Client(http, key_of(two_tenants))


@pytest.fixture(scope="package")
def globex(two_tenants: Home, http: TestClient) -> Client:
    return Client(http, key_of(two_tenants, "globex"))
