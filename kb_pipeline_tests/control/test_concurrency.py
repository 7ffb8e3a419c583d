"""Writers that meet, writers that come back from the dead, and readers beside them all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb_pipeline.control.schema import Lease
from kb_pipeline_tests.control.home import KEY, Home
from kb_pipeline_tests.crash.orchard import grow, plant
from kb_pipeline_tests.site import Site, serve_site


def start(home: Home, run_id: str, **environment: str) -> subprocess.Popen[str]:
    """A refresh in a process of its own."""
    command = [sys.executable, "-m", "kb_pipeline_tests.crash.refresh_once", str(KEY), run_id]
    variables = {"KB_HOME": str(home.settings.home), "KB_ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8"}
    return subprocess.Popen(
        command, env=os.environ | variables | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


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
    shutil.copytree(home.settings.home, to, symlinks=True)
    return Home(to, home.models_dir)


def expire_lease(home: Home) -> None:
    with home.db.write() as session:
        session.get_one(Lease, (KEY.tenant, KEY.kb)).expires_at = time.time() - 1


# -- a writer that wakes up after its lease was taken


def stop_at(home: Home, point: str) -> subprocess.Popen[str]:
    return start(home, "zombie", KB_FAILPOINT=point, KB_FAILPOINT_SIGNAL="STOP")


def wait_until_stopped(zombie: subprocess.Popen[str]) -> None:
    how = os.waitid(os.P_PID, zombie.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert how is not None
    assert how.si_code == os.CLD_STOPPED, zombie.communicate()


POINTS = sys.argv and (
    "pages.upsert.before", "pages.upsert.after", "documents.upsert.before", "documents.upsert.after", "chunks.replace.before",
    "model.append.before", "index.delete.before", "index.append.before", "index.append.after", "reserve.after", "pages.tag.before",
    "settle.before", "publish.before",
)


def test_a_zombie_publishes_nothing_and_doubles_nothing(grown: Home, tmp_path: Path) -> None:
    homes = {point: copy(grown, tmp_path / f"home-{number}") for number, point in enumerate(POINTS)}
    zombies = {point: stop_at(home, point) for point, home in homes.items()}
    for point, zombie in zombies.items():
        wait_until_stopped(zombie)
        home = homes[point]
        expire_lease(home)
        heir = home.refresh()
        print(point, "heir", heir.ended, heir.worked, heir.message)
        live = home.live()
        zombie.send_signal(signal.SIGCONT)
        out, err = zombie.communicate(timeout=60)
        print("  out", zombie.returncode, out[-300:], err[-300:])

        print("  ", home.live() == live, home.statuses(), home.doubled())
        n = home.refresh()
        print("  next", n.ended, n.worked, n.message[:200], home.doubled())
        n = home.refresh()
        print("  next", n.ended, n.worked, n.message[:100], home.doubled())
    assert 0
