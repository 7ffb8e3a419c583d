"""A refresh killed at every failpoint and at random moments: nothing lost, nothing doubled, nothing to mend by hand."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb_pipeline_tests.crash.kills import spread
from kb_pipeline_tests.crash.orchard import FRUITS, KEY, MODEL, Orchard, grow, plant
from kb_pipeline_tests.site import Site, serve_site

PARTS = 4
"""The failpoints are shared out among so many tests, for several workers to run."""
RANDOM_KILLS = int(os.environ.get("KB_TEST_RANDOM_KILLS", "2"))
"""`make bench` does fifty."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_site() as served:
        plant(served)
        yield served


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, site: Site) -> Orchard:
    """Return a home whose first version is live, and whose site has changed since."""
    folder = tmp_path_factory.mktemp("orchard")
    orchard = Orchard(folder / "home")
    orchard.home.mkdir()
    (orchard.home / "models").symlink_to(models_dir)
    source = {"name": "site", "type": "web", "start_urls": [f"{site.url}/"], "delay_s": 0}
    spec = {"tenant": KEY.tenant, "kb": KEY.kb, "sources": [source], "embedding": {"model": MODEL}}
    (folder / "docs.yaml").write_text(json.dumps(spec))
    applied = orchard.kb("apply", str(folder / "docs.yaml"))
    assert applied.returncode == 0, applied.stderr
    status, refresh, err = orchard.refresh("first")
    assert (status, refresh["status"]) == (0, "ready"), err
    grow(site)
    return orchard


@pytest.fixture(scope="module")
def undisturbed(planted: Orchard, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[str], list[str]]:
    """Content before and after a refresh that nothing disturbs, the keys after, and the failpoints on its way."""
    before = planted.live_content()
    orchard = planted.copy(tmp_path_factory.mktemp("undisturbed") / "home")
    trace = orchard.home / "trace"
    status, refresh, err = orchard.refresh("second", KB_FAILPOINT_TRACE=str(trace))
    assert (status, refresh["status"], refresh["version"]) == (0, "ready", 2), err
    return before, orchard.live_content(), orchard.live_keys(), trace.read_text().split()


def check_recovery(
    orchard: Orchard, undisturbed: tuple[str, str, list[str], list[str]], what: str, *, again: bool = False
) -> None:
    """Check that the live version is whole, and that one more refresh publishes the new one once."""
    before, after, keys, _ = undisturbed
    assert orchard.live_content() in (before, after), what
    cached = orchard.cached_vectors()
    orchard.expire_lease()
    status, refresh, err = orchard.refresh("third")
    assert status == 0, f"{what}: {err[-2000:]}"
    assert refresh["status"] in ("ready", "unchanged"), f"{what}: {refresh}"
    assert orchard.live_content() == after, what
    assert orchard.live_keys() == keys, what
    assert refresh["stages"]["embed"]["embedded"] == orchard.cached_vectors() - cached, f"{what}: work redone"
    if again:
        status, refresh, err = orchard.refresh("fourth")
        assert (status, refresh["status"]) == (0, "unchanged"), f"{what}: {refresh} {err[-2000:]}"


@pytest.mark.parametrize("part", range(PARTS))
def test_a_kill_at_any_failpoint_loses_nothing(
    planted: Orchard, undisturbed: tuple[str, str, list[str], list[str]], tmp_path: Path, part: int
) -> None:
    names = list(dict.fromkeys(undisturbed[3]))
    assert len(names) > 40, "a refresh that changes, adds and deletes comes by all kinds of steps"
    # Between the end of one commit and the beginning of the next nothing is written: one kill stands for both.
    distinct = [names[0], *(name for name in names[1:] if not name.endswith(".before") or name == "publish.before")]
    for name in spread(distinct)[part::PARTS]:
        orchard = planted.copy(tmp_path / name)
        status, _, _ = orchard.refresh("second", KB_FAILPOINT=name)
        assert status != 0, f"{name} was passed and nobody died"
        check_recovery(orchard, undisturbed, name)


def test_a_kill_at_any_moment_loses_nothing(
    planted: Orchard, undisturbed: tuple[str, str, list[str], list[str]], tmp_path: Path
) -> None:
    chance = random.Random(20261121)
    for number in range(RANDOM_KILLS):
        orchard = planted.copy(tmp_path / f"home-{number}")
        moment = chance.uniform(0.3, 4.0)
        run = orchard.start("second")
        time.sleep(moment)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        check_recovery(orchard, undisturbed, f"killed after {moment:.2f} s", again=True)


def test_the_site_of_these_tests_changes_in_every_way() -> None:
    with serve_site() as served:
        plant(served)
        old = dict(served.pages)
        grow(served)
        assert set(old) - set(served.pages) == {"/fig"}
        assert set(served.pages) - set(old) == {"/sloe", "/hazel"}
        assert old["/plum"] != served.pages["/plum"]
        assert len(served.pages) == len(FRUITS) + 2
