"""Many threads share one control plane: its pools of connections, on SQLite and on Postgres."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import QueuePool, select
from sqlalchemy.exc import OperationalError, TimeoutError

from kb_pipeline.control.db import engine
from kb_pipeline.control.db.engine import MAX_OVERFLOW, POOL_SIZE, Database
from kb_pipeline.control.db.models import Tenant
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.tenancy.tenants import create_tenant, get_tenant, set_status
from kb_pipeline.errors import InvalidSetting
from kb_pipeline_tests.control.planes import ACME, apply


def pool_of(db: Database) -> QueuePool:
    assert isinstance(db.engine.pool, QueuePool)
    return db.engine.pool


def test_more_threads_than_connections_read_and_write_at_once(db: Database) -> None:
    create_tenant(db, "acme", "default", "tester")
    started = threading.Barrier(32)

    def work(number: int) -> str:
        started.wait()
        set_status(db, "acme", "suspended", str(number), "tester")
        return get_tenant(db, "acme").status

    with ThreadPoolExecutor(32) as threads:
        assert set(threads.map(work, range(32))) == {"suspended"}
    assert pool_of(db).checkedout() == 0
    assert pool_of(db).checkedin() <= POOL_SIZE


def test_a_pool_opens_no_more_connections_than_it_says(db: Database) -> None:
    assert (pool_of(db).size(), pool_of(db)._max_overflow) == (POOL_SIZE, MAX_OVERFLOW)


def test_a_thread_that_gets_no_connection_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(f"sqlite:///{tmp_path / 'control.db'}").dispose()
    monkeypatch.setattr(engine, "_POOL", {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01})
    db = Database(f"sqlite:///{tmp_path / 'control.db'}")
    with db.read_all() as first:
        first.scalars(select(Tenant)).all()
        with db.read_all() as second, pytest.raises(TimeoutError):
            second.scalars(select(Tenant)).all()
    with db.read_all() as third:
        assert third.scalars(select(Tenant)).all() == []
    db.dispose()


def test_an_error_in_a_transaction_gives_the_connection_back_and_changes_nothing(db: Database) -> None:
    for _ in range(POOL_SIZE + MAX_OVERFLOW + 1):
        with suppress(ZeroDivisionError), db.write("acme") as session:
            session.scalars(select(Tenant)).all()
            _ = 1 / 0
    assert pool_of(db).checkedout() == 0


def test_a_closed_control_plane_holds_no_file_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    db = Database(f"sqlite:///{path}")
    apply(db, ACME)
    db.dispose()
    assert path not in open_files()
    assert get_kb(db, ACME).key == ACME
    assert path in open_files()
    db.dispose()


def open_files() -> set[Path]:
    """Return what this process has open; on Linux."""
    folder = Path("/proc/self/fd")
    return {Path(link) for each in folder.iterdir() if (link := readlink(each))}


def readlink(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:  # the descriptor with which the folder itself was listed
        return ""


def test_two_control_planes_of_one_process_share_nothing(tmp_path: Path) -> None:
    one, other = (Database(f"sqlite:///{tmp_path / name}.db") for name in ("one", "other"))
    create_tenant(one, "acme", "default", "tester")
    one.dispose()
    create_tenant(other, "globex", "default", "tester")
    with other.read_all() as session:
        assert [row.tenant for row in session.scalars(select(Tenant))] == ["globex"]
    other.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "nonsense"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="KB_DATABASE_URL"):
        Database(url)


def test_a_server_that_does_not_answer_is_an_error_without_the_password() -> None:
    with pytest.raises(OperationalError) as refused:
        Database("postgresql+psycopg://kb:s3cret@127.0.0.1:1/kb?connect_timeout=2")
    assert "s3cret" not in str(refused.value)
