"""A backup is whole and of one moment, whatever goes on; what is restored works, or nothing is put in place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from kb_pipeline.control.db.dump import dump_tables, load_tables
from kb_pipeline.control.db.engine import Database, open_engine
from kb_pipeline.control.db.models import Base, HostState, Kb, Lease, Plan, Refresh
from kb_pipeline.control.db.schema_revision import HEAD
from kb_pipeline.control.kbs.erasure_receipt import ErasureReceipt
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.control.tenancy import audit
from kb_pipeline.errors import DamagedBackup, SchemaTooNew, UsageError
from kb_pipeline.model import KbKey
from kb_pipeline.operations import backup
from kb_pipeline.operations.backup import make_backup
from kb_pipeline.operations.erase_document import erase_document
from kb_pipeline.operations.restore import restore_backup
from kb_pipeline.settings import Settings
from kb_pipeline_tests.control.db.test_isolation import MODELS, row
from kb_pipeline_tests.control.planes import apply
from kb_pipeline_tests.databases import control_url, copy_home, home_environment
from kb_pipeline_tests.operations.home import KEY, Home, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site

pytestmark = pytest.mark.xdist_group("backup")  # one worker builds what the module's tests share

WIKI = KbKey("globex", "wiki")


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    with serve_site() as served:
        for fruit in ("apple", "pear", "plum"):
            served.put(f"/{fruit}", fruit.title(), f"The {fruit} is picked late and kept in the cellar until spring.")
        served.put("/", "Orchard", "The handbook of our orchard.", ("/apple", "/pear", "/plum"))
        yield served


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, shared_site: Site) -> Home:
    """Return a home with two versions of one tenant's KB and one of another's; tests must not change it."""
    home = Home(tmp_path_factory.mktemp("published") / "home", models_dir)
    for key in (KEY, WIKI):
        home.apply(shared_site, key)
        assert home.refresh(key).status == "ready"
    pages = dict(shared_site.pages)
    shared_site.put("/plum", "Plum", "Plums are distilled into a clear brandy that is called slivovitz.")
    assert home.refresh().version == 2
    shared_site.pages.clear()
    shared_site.pages |= pages
    return home


@pytest.fixture(scope="module")
def backed_up(published: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("backups") / "one"
    made = make_backup(published.settings, published.db, directory)
    assert (made.versions, made.left_out[0][:11]) == (3, "secret keys")
    return directory


def restored(directory: Path, folder: Path, models_dir: Path) -> Home:
    """Restore a backup into a new home."""
    settings = replace(Home(folder.with_name("unused"), models_dir).settings, home=folder, data_dir=folder / "data")
    restore_backup(replace(settings, database_url=control_url(folder)), directory)
    return Home(folder, models_dir)


def dumped(db: Database, folder: Path) -> dict[str, str]:
    with db.snapshot() as connection:
        dump_tables(connection, folder)
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_table_comes_back_also_on_the_other_kind_of_database(
    db: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with db.write_all() as session:
        session.add_all([row(model, tenant) for model in MODELS for tenant in ("acme", "globex")])
        session.add_all(
            [
                HostState(host="x.example"),
                Plan(name="gold", limits={"documents": 3}, updated_at=row(Kb, "a").created_at),
            ]
        )
    apply(db, KbKey("initech", "docs"))
    before = dumped(db, tmp_path / "first")
    assert {path.removesuffix(".jsonl") for path in before} == set(Base.metadata.tables)
    other = f"sqlite:///{tmp_path / 'other.db'}" if not db.is_sqlite else request.getfixturevalue("fresh_postgres")
    for url in (other, f"sqlite:///{tmp_path / 'same.db'}"):
        engine = open_engine(url)
        load_tables(engine, tmp_path / "first", HEAD)
        engine.dispose()
        copy = Database(url)
        assert dumped(copy, tmp_path / f"of-{copy.url.get_backend_name()}") == before
        shutil.rmtree(tmp_path / f"of-{copy.url.get_backend_name()}")
        assert audit.verify_tenant(copy, "initech") == audit.verify_tenant(db, "initech")
        copy.dispose()


def test_rows_of_an_earlier_revision_are_brought_up_to_date(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    kb = {"tenant": "acme", "kb": "docs", "spec": "x", "revision": 1, "timezone": "UTC", "live_version": None}
    moments = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00+00:00")
    (tmp_path / "control/kbs.jsonl").write_text(json.dumps(kb | moments) + "\n")
    engine = open_engine(f"sqlite:///{tmp_path / 'control.db'}")
    assert load_tables(engine, tmp_path / "control", "0001")["kbs"] == 1
    with pytest.raises(SchemaTooNew):
        load_tables(engine, tmp_path / "control", "9999")
    engine.dispose()
    db = Database(f"sqlite:///{tmp_path / 'control.db'}")
    assert apply(db, KEY) == "updated"  # the migration has made its tenant


def test_what_is_restored_answers_as_before_and_is_refreshed_for_what_changed(
    published: Home, backed_up: Path, tmp_path: Path, models_dir: Path, shared_site: Site
) -> None:
    copy = restored(backed_up, tmp_path / "copy", models_dir)
    for number in (None, 1, 2):
        assert copy.answers(number, "brandy", "late pears") == published.answers(number, "brandy", "late pears")
    assert copy.statuses() == published.statuses()
    assert {chain.broken_at for chain in audit.verify(copy.db)} == {None}
    shared_site.asked.clear()
    again = copy.refresh(WIKI)
    assert (again.status, again.worked) == ("unchanged", (0, 0, 0))
    assert set(shared_site.asked) <= {"/robots.txt", "/sitemap.xml"}
    changed = copy.refresh()  # the page is again what it was in version 1
    assert (changed.ended, changed.worked) == (("ready", 3), (1, 1, 0))
    assert copy.keys() == published.keys()
    assert copy.doubled() == {}


def test_a_backup_of_sqlite_is_restored_onto_postgres(
    published: Home, backed_up: Path, tmp_path: Path, fresh_postgres: str
) -> None:
    settings = replace(
        published.settings, home=tmp_path / "copy", data_dir=tmp_path / "elsewhere", database_url=fresh_postgres
    )
    assert restore_backup(settings, backed_up).live_versions == ("acme/docs 2", "globex/wiki 1")
    db = Database(fresh_postgres)
    assert live_manifest(db, KEY) == published.live()
    assert [chain.broken_at for chain in audit.verify(db)] == [None, None]
    db.dispose()
    with pytest.raises(UsageError, match="not empty"):
        restore_backup(replace(settings, home=tmp_path / "again", data_dir=tmp_path / "other"), backed_up)


def test_a_control_plane_that_some_command_has_made_is_empty_still(
    published: Home, backed_up: Path, tmp_path: Path, db: Database
) -> None:
    url = db.url.render_as_string(hide_password=False)
    settings = replace(published.settings, home=tmp_path / "copy", data_dir=tmp_path / "elsewhere", database_url=url)
    assert restore_backup(settings, backed_up).live_versions == ("acme/docs 2", "globex/wiki 1")


def test_what_ran_when_the_backup_was_made_is_not_running_in_what_is_restored(
    published: Home, tmp_path: Path, models_dir: Path
) -> None:
    with published.begun(WIKI):
        make_backup(published.settings, published.db, tmp_path / "backup")
    copy = restored(tmp_path / "backup", tmp_path / "copy", models_dir)
    with copy.db.read_all() as session:
        assert "running" not in set(session.scalars(select(Refresh.status)))
        assert set(session.scalars(select(Lease.expires_at))) == {0.0}
    assert copy.refresh(WIKI).status == "unchanged"


def test_backups_made_while_refreshes_publish_are_each_whole(tmp_path: Path, models_dir: Path, site: Site) -> None:
    home = Home(tmp_path / "home", models_dir)
    home.apply(site, retention={"versions": 1})
    assert home.refresh().status == "ready"
    statuses = []

    def publish_many() -> None:
        for number in range(4):
            site.put("/plums", "Plums", f"Plums were dried into {number} prunes, boiled down and eaten.")
            statuses.append(home.refresh().status)

    publishing, number = threading.Thread(target=publish_many), 0
    publishing.start()
    while publishing.is_alive() or number < 2:
        make_backup(home.settings, Database(home.settings.database_url), tmp_path / f"backup-{number}")
        number += 1
    publishing.join()
    assert statuses == ["ready"] * 4
    for each in sorted({0, number // 2, number - 1}):
        copy = restored(tmp_path / f"backup-{each}", tmp_path / f"copy-{each}", models_dir)
        assert copy.hits("prunes")[0]["key"] == f"{site.url}/plums"
        assert len(copy.keys()) == 5
    assert copy.refresh().status in ("ready", "unchanged"), "the last one may have been made before the last version"
    assert copy.refresh().status == "unchanged"
    assert copy.doubled() == {}


def test_a_process_that_is_being_forked_meanwhile_does_not_hold_the_next_backup_up(tmp_path: Path) -> None:
    settings = Settings(tmp_path, "", tmp_path / "data", "", (), "text")
    with backup._one_at_a_time(settings):
        child = os.fork()  # has the lock's file open until it executes another program
        if child == 0:
            signal.pause()
    try:
        with backup._one_at_a_time(settings), pytest.raises(UsageError), backup._one_at_a_time(settings):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_is_erased_while_a_backup_begins_is_not_in_it(
    published: Home, tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_home(published.settings.home, tmp_path / "home")
    home = Home(tmp_path / "home", models_dir)
    erased: list[ErasureReceipt] = []

    def erase_once(name: str) -> None:
        if name == "backup.snapshot" and not erased:
            key = next(row["key"] for row in home.hits("brandy", 2))
            erased.append(erase_document(home.settings, home.db, KEY, key))

    monkeypatch.setattr(backup, "failpoint", erase_once)
    make_backup(home.settings, home.db, tmp_path / "backup")
    files = [path for path in (tmp_path / "backup").rglob("*") if path.is_file()]
    assert erased
    assert not [path for path in files if b"slivovitz" in path.read_bytes()]
    copy = restored(tmp_path / "backup", tmp_path / "copy", models_dir)
    assert copy.keys() == ["/", "/apple", "/pear"]


@pytest.mark.parametrize(
    "place", ["control/kbs.jsonl", "data/acme/docs/raw/*", "data/*/*/lance/*/data/*", "files.jsonl"]
)
def test_a_damaged_byte_is_found_before_anything_is_put_in_place(
    backed_up: Path, tmp_path: Path, models_dir: Path, place: str
) -> None:
    shutil.copytree(backed_up, tmp_path / "backup")
    path = sorted((tmp_path / "backup").glob(place))[0]
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(DamagedBackup, match=path.name):
        restored(tmp_path / "backup", tmp_path / "copy", models_dir)
    path.unlink()
    with pytest.raises(DamagedBackup, match=path.name):
        restored(tmp_path / "backup", tmp_path / "copy", models_dir)
    assert not (tmp_path / "copy/data").exists()


def test_a_home_with_anything_in_it_and_a_directory_that_is_no_backup_are_refused(
    published: Home, backed_up: Path, tmp_path: Path, models_dir: Path
) -> None:
    with pytest.raises(UsageError, match="is not empty"):
        restore_backup(published.settings, backed_up)
    empty = Home(tmp_path / "copy", models_dir)
    apply(empty.db, KEY)
    with pytest.raises(UsageError, match="rows in"):
        restore_backup(empty.settings, backed_up)
    with pytest.raises(UsageError, match="no backup"):
        restore_backup(empty.settings, tmp_path)
    with pytest.raises(UsageError, match="exists"):
        make_backup(published.settings, published.db, backed_up)


_RUN = """
import sys
from pathlib import Path
from kb_pipeline.operations.backup import make_backup
from kb_pipeline.control.db.engine import Database
from kb_pipeline.operations.restore import restore_backup
from kb_pipeline.settings import load_settings
settings, directory = load_settings(), Path(sys.argv[2])
if sys.argv[1] == "backup":
    make_backup(settings, Database(settings.database_url), directory)
else:
    restore_backup(settings, directory)
"""


def killed(home: Path, action: str, directory: Path, failpoint: str) -> None:
    environment = os.environ | home_environment(home) | {"KB_FAILPOINT": failpoint}
    done = subprocess.run([sys.executable, "-c", _RUN, action, str(directory)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_backup_that_is_killed_leaves_none_and_the_next_one_is_whole(
    published: Home, tmp_path: Path, models_dir: Path
) -> None:
    for step in ("backup.linked", "backup.file:9", "backup.written"):
        killed(published.settings.home, "backup", tmp_path / "backup", step)
        assert not (tmp_path / "backup").exists()
    made = make_backup(published.settings, published.db, tmp_path / "backup")
    assert made.versions == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup"]
    assert sorted(path.name for path in published.settings.data_dir.iterdir()) == ["acme", "globex"]
    copy = restored(tmp_path / "backup", tmp_path / "copy", models_dir)
    assert copy.answers(None, "brandy") == published.answers(None, "brandy")


def test_a_restore_that_is_killed_begins_anew(
    published: Home, backed_up: Path, tmp_path: Path, models_dir: Path
) -> None:
    for step in ("restore.begun", "restore.file:9", "restore.copied", "restore.data", "restore.tables"):
        killed(tmp_path / "copy", "restore", backed_up, step)
    copy = restored(backed_up, tmp_path / "copy", models_dir)
    assert copy.answers(None, "brandy") == published.answers(None, "brandy")
    left = {path.name for path in (tmp_path / "copy").iterdir()} - {"models"}
    assert {name for name in left if not name.startswith("control.db")} == {"data"}
