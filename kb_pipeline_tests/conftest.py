"""What many tests need: a home of their own, a control plane on both databases."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline_tests.databases import (
    CONTROL,
    ON_POSTGRES,
    SERVER,
    Server,
    create_deployed,
    drop_databases,
    home_environment,
    serve_postgres,
)
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.published import first_build, published  # noqa: F401 - fixtures for all rooms
from kb_pipeline_tests.site import Site, plant_orchard, serve_site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that wait longest first, so that no worker is left alone with them in the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_dir: Path, empty_home: Path) -> Path:
    """Return an empty KB_HOME that shares the session's converted models, with loopback opened to fetching."""
    home = tmp_path / "home"
    shutil.copytree(empty_home, home)
    (home / "models").symlink_to(models_dir)
    for name in (
        "KB_DATABASE_URL",
        "KB_STORAGE_URI",
        "KB_CONTACT",
        "KB_LOG_FORMAT",
        "KB_KEY",
        "KB_SECRET_KEYS",
        "DAGSTER_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in home_environment(home).items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of converted models for the whole session and all its workers: converting takes seconds."""
    ours = tmp_path_factory.getbasetemp()
    folder = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "models"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Start the session's server."""
    with serve_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: Server) -> str:
    """Return the URL of a database that many tests use."""
    return postgres.url


@pytest.fixture(scope="session", autouse=ON_POSTGRES)
def homes_on_postgres(postgres: Server) -> Iterator[None]:
    """Where homes are on Postgres, all of the session's are on its server."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SERVER, postgres.url)
        create_deployed(postgres)
        yield


@pytest.fixture(autouse=ON_POSTGRES)
def databases_dropped(tmp_path: Path) -> Iterator[None]:
    """Of the homes that a test has made; those that a module shares live as long as the server."""
    yield
    drop_databases(tmp_path)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty control plane to copy: migrating one takes longer than most tests."""
    path = tmp_path_factory.mktemp("control") / "control.db"
    Database(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Return a home to copy; on SQLite with a control plane and Dagster's storage."""
    home = tmp_path_factory.mktemp("empty") / "home"
    home.mkdir()
    if not ON_POSTGRES:
        from kb_pipeline.defs.instance import open_instance
        from kb_pipeline.settings import load_settings

        shutil.copy(request.getfixturevalue("migrated_sqlite"), home)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("KB_HOME", str(home))
            environment.delenv("KB_DATABASE_URL", raising=False)
            open_instance(load_settings()).dispose()
    return home


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Server) -> str:
    """Return the name of a database with an empty control plane, for use as a template."""
    Database(postgres.create(CONTROL)).dispose()
    return CONTROL


@pytest.fixture
def fresh_postgres(postgres: Server) -> Iterator[str]:
    """Return the URL of a database without any table."""
    with _temporary(postgres) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return an empty control plane, on SQLite and on Postgres."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            shutil.copyfile(request.getfixturevalue("migrated_sqlite"), tmp_path / "control.db")
            url = f"sqlite:///{tmp_path / 'control.db'}"
        else:
            template = request.getfixturevalue("migrated_postgres")
            url = stack.enter_context(_temporary(request.getfixturevalue("postgres"), template))
        database = Database(url)
        stack.callback(database.dispose)
        yield database


@contextmanager
def _temporary(server: Server, template: str = "template1") -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    yield server.create(name, template)
    server.drop(name)


@pytest.fixture
def kb(home: Path, tmp_path: Path) -> Kb:
    return Kb(tmp_path)


@pytest.fixture
def site() -> Iterator[Site]:
    """Five pages in English, the first linking to the others."""
    with serve_site() as served:
        plant_orchard(served)
        yield served
