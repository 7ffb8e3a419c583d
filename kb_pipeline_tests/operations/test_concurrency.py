"""Writers that meet, writers that come back from the dead, and readers beside them all."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.coordination.leases import HeldLease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Lease
from kb_pipeline.errors import DamagedStore
from kb_pipeline.operations import publish, readers
from kb_pipeline.operations.housekeeping import tidy_kb
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline_tests.crash.orchard import Orchard, grow, plant
from kb_pipeline_tests.databases import copy_home
from kb_pipeline_tests.operations.home import KEY, MODEL, Home, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site
from kb_pipeline_tests.warm import Running

pytestmark = pytest.mark.xdist_group("concurrency")  # one worker builds what the module's tests share


def start(home: Home, run_id: str, **environment: str) -> Running:
    """Run a refresh in a process of its own."""
    return Orchard(home.settings.home).start(run_id, **environment)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_site() as served:
        plant(served)
        yield served


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, site: Site) -> Home:
    """Version 1 is live, and the site has changed since."""
    home = Home(tmp_path_factory.mktemp("grown") / "home", models_dir)
    home.apply(site)
    assert home.refresh().ended == ("ready", 1)
    grow(site)
    return home


def copy(home: Home, to: Path) -> Home:
    copy_home(home.settings.home, to)
    return Home(to, home.models_dir)


def expire_lease(home: Home) -> None:
    with home.db.write_all() as session:
        session.get_one(Lease, (KEY.tenant, KEY.kb)).expires_at = time.time() - 1


# -- a writer that wakes up after its lease was taken


def stop_at(home: Home, point: str) -> Running:
    return start(home, "zombie", KB_FAILPOINT=point, KB_FAILPOINT_SIGNAL="STOP")


def wait_until_stopped(zombie: Running) -> None:
    while (state := Path(f"/proc/{zombie.pid}/stat").read_text().rpartition(")")[2].split()[0]) != "T":
        assert state != "Z", zombie.communicate()
        time.sleep(0.02)


EARLY = ("documents.upsert.before", "chunks.replace.after", "index.append.before", "index.append.after")
"""Nothing has a number yet; where `before` is passed, the last look at the lease was before the stop."""
LATE = ("pages.tag.before", "publish.before")


@pytest.mark.parametrize("points", [EARLY, LATE], ids=["early", "late"])
def test_a_zombie_publishes_nothing_and_doubles_nothing(grown: Home, tmp_path: Path, points: tuple[str, ...]) -> None:
    homes = {point: copy(grown, tmp_path / point) for point in points}
    zombies = {point: stop_at(home, point) for point, home in homes.items()}
    for point, home in homes.items():
        zombie, number = zombies[point], 3 if point in LATE else 2
        wait_until_stopped(zombie)
        expire_lease(home)
        assert home.refresh().ended == ("ready", number), point
        live, answers = home.live(), home.answers(None, "slivovitz")
        zombie.send_signal(signal.SIGCONT)
        out, err = zombie.communicate(timeout=60)
        assert (zombie.returncode, out) == (1, ""), point
        assert "LeaseLost: acme/docs: run zombie lost its lease" in err, point
        assert (home.live(), home.answers(None, "slivovitz")) == (live, answers), point
        following = home.refresh()
        assert (following.ended, following.embedded) == (("unchanged", number), 0), f"{point}: {following.message}"
        assert home.doubled() == {}, point
        assert home.statuses() == dict.fromkeys((1, number), "published") | ({2: "superseded"} if number == 3 else {})


# -- writers that meet


def test_of_two_refreshes_at_once_one_publishes_and_the_other_says_who_writes(
    grown: Home, tmp_path: Path, site: Site
) -> None:
    home = copy(grown, tmp_path / "home")
    home.apply(site, source={"delay_s": 0.1})  # slower than two processes' difference in starting
    runs = [start(home, name) for name in ("one", "two")]
    told = [(run.communicate(timeout=60), run.returncode) for run in runs]
    (won,) = [json.loads(out) for (out, _), status in told if status == 0]
    (lost,) = [err for (_, err), status in told if status != 0]
    assert (won["status"], won["version"]) == ("ready", 2)
    assert "LeaseHeld: acme/docs: run " in lost
    assert home.statuses() == {1: "published", 2: "published"}
    assert home.doubled() == {}
    assert home.refresh().ended == ("unchanged", 2)


# -- readers beside writers

GRACE = timedelta(seconds=0.5)
PUBLISHES = 20


def write_number(site: Site, number: int) -> None:
    """Every page names the version that shows it."""
    for page in range(4):
        site.put(f"/{page}", f"Page {page}", f"Marker {number}. Page {page} tells of plums and pears.")
    site.put("/", "Orchard", f"Marker {number}. The handbook.", tuple(f"/{page}" for page in range(4)))


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    def tidy_soon(store: KbStore, db: Database, lease: HeldLease, keep: int, model: str) -> int:
        return tidy_kb(store, db, lease, keep, model, GRACE)

    monkeypatch.setattr(publish, "tidy_kb", tidy_soon)


@pytest.mark.usefixtures("short_grace")
def test_readers_see_one_version_whole_however_fast_others_are_published(tmp_path: Path, models_dir: Path) -> None:
    home = Home(tmp_path / "home", models_dir)
    with serve_site() as site:
        home.apply(site, retention={"versions": 1}, publish={"max_drop": 1})
        write_number(site, 1)
        assert home.refresh().ended == ("ready", 1)
        reader = subprocess.Popen(
            [sys.executable, "-m", "kb_pipeline_tests.operations.search_loop", str(home.settings.home)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert reader.stdout is not None
        reader.stdout.readline()  # it searches
        for number in range(2, 2 + PUBLISHES):
            write_number(site, number)
            assert home.refresh().ended == ("ready", number)
    out, err = reader.communicate("stop\n", timeout=60)
    assert reader.returncode == 0, err
    answers = json.loads(out)
    seen = {answer["version"] for answer in answers}
    assert len(seen) > PUBLISHES / 2
    assert max(seen) == PUBLISHES + 1
    assert len(answers) > 2 * PUBLISHES
    for answer in answers:
        assert answer["markers"] == [f"Marker {answer['version']}."], answer
    assert home.statuses()[1] == "pruned"


def test_a_reader_whose_version_is_cleaned_away_reads_the_live_one(
    grown: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copy(grown, tmp_path / "home")
    stale = home.live()
    assert home.refresh().ended == ("ready", 2)
    with leases.hold_lease(home.db, KEY, "tidier") as lease:
        tidy_kb(home.store(), home.db, lease, 1, MODEL, timedelta(0))
    seen = [stale, home.live()]
    monkeypatch.setattr(readers, "manifest_as_of", lambda *arguments: seen.pop(0))
    assert home.ask("slivovitz", None, "hybrid")[0] == 2
    assert seen == []
    seen = [stale, stale]  # no other version is live: that is damage and is said
    with pytest.raises(DamagedStore):
        home.ask("slivovitz", None, "hybrid")


def test_an_old_version_answers_as_when_it_was_live(grown: Home, tmp_path: Path) -> None:
    home = copy(grown, tmp_path / "home")
    queries = ("when is the plum picked", "fig", "cellar")
    before = home.answers(None, *queries)
    assert home.refresh().ended == ("ready", 2)
    with leases.hold_lease(home.db, KEY, "tidier") as lease:
        tidy_kb(home.store(), home.db, lease, 5, MODEL, timedelta(0))
    assert home.answers(None, *queries) != before
    command = [sys.executable, "-m", "kb_pipeline_tests.operations.search_loop", str(home.settings.home), "1", *queries]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == before
