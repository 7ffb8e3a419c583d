"""Erasing a document: from every version, file, cache and index; it stays away, and a kill on the way loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pyarrow.parquet as pq
import pytest

from kb_pipeline.control.coordination.leases import hold_lease
from kb_pipeline.control.db.models import Lease
from kb_pipeline.control.kbs.erasure_receipt import ErasureReceipt
from kb_pipeline.control.kbs.erasures import find_receipt
from kb_pipeline.control.kbs.versions import get_manifest, kept_manifests, pending_versions
from kb_pipeline.control.runs.failures import list_failures
from kb_pipeline.errors import LeaseHeld, UnknownDocument, UsageError
from kb_pipeline.index.documents import list_documents, read_document, read_raw_bytes
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import KbKey
from kb_pipeline.operations.erase_document import erase_document, lift_erasure
from kb_pipeline.operations.plan_erasure import plan_erasure
from kb_pipeline.operations.rollback import rollback_kb
from kb_pipeline.operations.run_summary import SAMPLE_COLUMNS
from kb_pipeline.publish.candidate import verify_version
from kb_pipeline.store.manifest import Counts, read_manifest
from kb_pipeline_tests import warm
from kb_pipeline_tests.crash.kills import spread
from kb_pipeline_tests.databases import ON_POSTGRES, copy_home, home_environment, rows_of
from kb_pipeline_tests.operations.home import KEY, MODES, Home
from kb_pipeline_tests.site import Site, serve_site

pytestmark = pytest.mark.xdist_group("erase_document")  # one worker builds what the module's tests share

CANARIES = ("zyxquombat", "flummoxite", "grobblewick")
"""Words of the document to erase: of its text in every version, of its title, of its text before it changed."""
OTHER_KB, OTHER_TENANT = KbKey("acme", "other"), KbKey("rival", "docs")
TWIN = "Twins are born of one tree, and nobody tells the one from the other in the basket."
PATHS = ("/apple", "/pear", "/plum", "/quince", "/secret", "/twin", "/twin-again", "/moved")


def plant(site: Site) -> None:
    for fruit in ("apple", "pear", "plum", "quince"):
        site.put(f"/{fruit}", fruit.title(), f"The {fruit} is picked late and kept in the cellar until spring.")
    site.put("/secret", "On flummoxite", "The grobblewick is a zyxquombat that was told in confidence to one of us.")
    site.put("/twin", "Twin", TWIN)
    site.pages["/twin-again"] = site.pages["/twin"]
    site.redirects["/moved"] = "/secret"
    site.put("/", "Orchard", "The handbook of our orchard.", PATHS)


@dataclass(frozen=True)
class State:
    """What a version shows."""

    texts: dict[str, str]
    chunks: int


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_site() as served:
        yield served


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, site: Site) -> Home:
    """Three versions published, a fourth held; another KB of the tenant and another tenant have documents too."""
    plant(site)
    home = Home(tmp_path_factory.mktemp("grown") / "home", models_dir)
    home.apply(site)
    assert home.refresh().ended == ("ready", 1)
    site.put("/secret", "On flummoxite", "Nobody else may know of the zyxquombat beyond the river.")
    site.put("/apple", "Apple", "Apples are pressed into a cider that is drunk young.")
    assert home.refresh().ended == ("ready", 2)
    site.put("/pear", "Pear", "Pears are poached in wine with a stick of cinnamon.")
    assert home.refresh().ended == ("ready", 3)
    pages = dict(site.pages)
    site.put("/", "Orchard", "The handbook of a smaller orchard.", ("/apple", "/secret"))
    for path in ("/pear", "/plum", "/quince", "/twin", "/twin-again"):
        del site.pages[path]
    assert home.refresh().status == "held"
    site.pages.clear()
    site.pages.update(pages)
    home.apply(site, OTHER_TENANT)
    assert home.refresh(OTHER_TENANT).status == "ready"
    # Damaged files were set aside once, and a crash left something half written.
    for name in ("quarantine/a-b.parquet", "raw/c.tmp", "journal/site/000001.parquet", "versions/.000001.json.7.tmp"):
        file = home.store().paths.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"zyxquombat")
    home.db.dispose()
    return home


@pytest.fixture
def home(grown: Home, tmp_path: Path) -> Home:
    return copied(grown, tmp_path / "home")


def copied(home: Home, to: Path) -> Home:
    copy_home(home.settings.home, to)
    return Home(to, home.models_dir)


def erase(home: Home, site: Site, path: str = "/secret", key: KbKey = KEY) -> ErasureReceipt:
    return erase_document(home.settings, home.db, key, site.url + path)


def states(home: Home) -> dict[int, State]:
    """Return what every retained version shows: its texts by key."""
    found = {}
    for manifest in kept_manifests(home.db, KEY):
        version = VersionReader(home.store(), manifest)
        listed = list(list_documents(version))
        texts = {row.key: read_document(version, row.key).markdown for row in listed}
        found[manifest.version] = State(texts, sum(row.chunks for row in listed))
    return found


def places_with(home: Home, *words: str) -> list[str]:
    """Every file (Parquet and Lance decompressed, all versions, others as they are) that has one of the words."""
    wanted = [word.encode() for word in words]
    found = []
    for path in sorted(home.settings.home.rglob("*")):
        if path.is_symlink() or not path.is_file() or "models" in path.relative_to(home.settings.home).parts:
            continue
        content = path.read_bytes().lower()
        if path.suffix == ".parquet" and content[:4] == b"par1":
            content = str(pq.read_table(path).to_pylist()).lower().encode()
        if path.suffix == ".lance":
            content += lance_text(path)
        if any(word in content for word in wanted):
            found.append(str(path.relative_to(home.settings.home)))
    if ON_POSTGRES:
        rows = rows_of(home.settings.database_url)
        found += [f"table {table}" for table, row in rows if any(word in row.lower() for word in words)]
    for path in sorted(home.settings.home.rglob("*.lance")):
        if path.is_dir() and ".vectors" not in path.parts:
            for version in lance.dataset(str(path)).versions():
                rows = lance.dataset(str(path), version=version["version"]).to_table()
                if any(word in str(rows.to_pylist()).lower().encode() for word in wanted):
                    found.append(f"{path.relative_to(home.settings.home)} version {version['version']}")
    return found


def index_segments(dataset: Any, version: int) -> set[str]:
    """Return the folders of the indexes of a version."""
    indexes = dataset.checkout_version(version).describe_indices()
    return {str(segment.uuid) for index in indexes for segment in index.segments}


def lance_text(path: Path) -> bytes:
    """All that a Lance data or index file holds, deleted rows as well."""
    from lance.file import LanceFileReader

    return str(LanceFileReader(str(path)).read_all().to_table().to_pylist()).lower().encode()


def check_gone(home: Home, before: dict[int, State], key: str) -> None:
    """Nothing shows the document, and nothing else changed."""
    after = states(home)
    assert list(after) == list(before)
    for number, state in after.items():
        others = {each: text for each, text in before[number].texts.items() if each != key}
        assert state.texts == others
        manifest = get_manifest(home.db, KEY, number)
        version = VersionReader(home.store(), manifest)
        assert manifest.counts == Counts(len(others), state.chunks)
        assert manifest == read_manifest(home.store().paths, number)
        verify_version(home.store(), manifest)
        for mode in MODES:
            assert key not in {hit["key"] for hit in home.hits("zyxquombat flummoxite grobblewick", number, mode)}
            for each in others:
                query = f"{each.rsplit('/', 1)[1]} {others[each][:200]}"
                assert each in {hit["key"] for hit in home.hits(query, number, mode)}, (number, mode, each)
        for each in others:
            body = read_raw_bytes(version, each)
            assert hashlib.sha256(body).hexdigest() == read_document(version, each).provenance.sha256
        with pytest.raises(UnknownDocument):
            read_document(version, key)


@pytest.mark.upgrade("lance")
def test_nothing_of_it_is_left_in_any_version_and_all_else_is_as_it_was(home: Home, site: Site) -> None:
    before, key = states(home), site.url + "/secret"
    assert [key in state.texts for state in before.values()] == [True] * 3
    assert {path.split("/")[3] for path in places_with(home, *CANARIES) if path.startswith("data/acme/docs/")} == {
        "journal", "lance", "quarantine", "raw", "versions"
    }  # fmt: skip
    indexes_before = {path.name for path in home.store().paths.lance.glob("*.lance/_indices/*")}
    assert indexes_before
    (held,) = pending_versions(home.db, KEY)
    receipt = erase(home, site)
    assert (receipt.status, receipt.versions) == ("erased", (1, 2, 3))
    assert not any(check.found for check in receipt.checks)
    check_gone(home, before, key)
    assert not pending_versions(home.db, KEY)
    with pytest.raises(UsageError):
        home.hits("zyxquombat", held.number)
    for name in ("pages", "documents", "chunks", home.live().tables["index"].name):
        dataset = lance.dataset(str(home.store().paths.lance / f"{name}.lance"))
        named = {tag["version"] for tag in dataset.tags.list().values()} | {dataset.version}
        assert {each["version"] for each in dataset.versions()} == named, "no version is older than the purge"
        assert set(dataset.tags.list()) == {"v1", "v2", "v3"}
        # The words of a text index are compressed: what counts is that its files were made after the purge.
        used = {folder for version in named for folder in index_segments(dataset, version)}
        on_disk = {path.name for path in (home.store().paths.lance / f"{name}.lance" / "_indices").glob("*")}
        assert on_disk == used
        assert not on_disk & indexes_before


@pytest.mark.upgrade("lance")
def test_no_file_of_this_home_holds_a_word_of_it(home: Home, site: Site) -> None:
    receipt = erase(home, site)
    assert places_with(home, *CANARIES) == [path for path in places_with(home, *CANARIES) if "rival" in path]
    removed = {place.place: place.removed for place in receipt.places}
    assert (removed["quarantine"], removed["unfinished fetches"], removed["unfinished files"]) == (1, 1, 2)
    assert removed["raw segments"] >= 2
    assert removed["table documents"] >= 3
    assert any("backup" in line for line in receipt.not_reached)
    assert any("kb export" in line for line in receipt.not_reached)


def test_it_is_not_fetched_again_and_the_failures_say_why(home: Home, site: Site) -> None:
    erase(home, site)
    site.asked.clear()
    refreshed = home.refresh()
    assert refreshed.ended == ("unchanged", 3), refreshed.message
    (failure,) = [row for row in list_failures(home.db, KEY) if row.reason == "erased"]
    assert (failure.key, failure.recoverable) == (site.url + "/secret", False)
    assert "lift" in failure.message
    # A page that changes links to it, another redirects to it.
    before = site.pages["/"]
    site.put("/", "Orchard", "The handbook of our orchard, second edition.", PATHS)
    refreshed = home.refresh()
    site.pages["/"] = before
    assert refreshed.ended == ("ready", 5)
    assert refreshed.stages["fetch"]["rejected_by_reason"]["erased"] == 1
    assert "/secret" not in shown(home)
    assert site.asked["/secret"] == 0
    # Under another name its source does not bring it back either.
    home.apply(site, source={"name": "web"})
    assert home.refresh(force=True).status == "ready", "every id is another, which is a matter of judgement"
    assert "/secret" not in shown(home)
    assert site.asked["/secret"] == 0


def test_a_lifted_erasure_lets_the_next_refresh_fetch_it(home: Home, site: Site) -> None:
    first = erase(home, site)
    assert lift_erasure(home.settings, home.db, KEY, site.url + "/secret") == first
    site.status["/secret"] = 503
    refreshed = home.refresh()
    del site.status["/secret"]
    assert refreshed.status in ("unchanged", "ready_with_warnings"), "a try that fails breaks nothing"
    assert home.failures()["/secret"] in ("http_503", "lifted")
    refreshed = home.refresh()
    assert refreshed.status == "ready", refreshed.message
    assert "/secret" in shown(home)
    assert "/secret" not in home.failures()
    second = erase(home, site)
    assert [each.erased_at for each in second.earlier] == [first.erased_at]
    assert "/secret" not in shown(home)


def test_erasing_twice_gives_the_kept_receipt(home: Home, site: Site) -> None:
    receipt = erase(home, site)
    assert erase(home, site) == receipt
    home.refresh()
    assert erase(home, site) == receipt
    lift_erasure(home.settings, home.db, KEY, site.url + "/secret")
    erase(home, site)
    site.asked.clear()
    home.refresh()
    assert site.asked["/secret"] == 0, "erased once more before it was fetched"


def test_an_unknown_key_is_a_usage_error(home: Home, site: Site) -> None:
    for call in (erase_document, lift_erasure):
        with pytest.raises(UnknownDocument):
            call(home.settings, home.db, KEY, site.url + "/nothing")
    assert kb(home, "erase", str(KEY), site.url + "/nothing", "--yes").returncode == 2


def test_the_command_prints_the_receipt(home: Home, site: Site) -> None:
    done = kb(home, "erase", str(KEY), site.url + "/secret", "--yes")
    assert done.returncode == 0, done.stderr
    assert "erased at" in done.stdout
    assert "embedding cache" in done.stdout
    assert "Not reached:" in done.stdout
    again = kb(home, "erase", str(KEY), site.url + "/secret", "--yes", "--json")
    assert json.loads(again.stdout)["status"] == "erased"
    assert kb(home, "erase", str(KEY), site.url + "/secret", "--lift").returncode == 0


def test_a_duplicate_goes_and_what_stands_for_it_stays(home: Home, site: Site) -> None:
    before = states(home)
    receipt = erase(home, site, "/twin-again")
    assert (receipt.same_content_at, receipt.stood_for) == ((site.url + "/twin",), ())
    check_gone(home, before, site.url + "/twin-again")
    assert home.refresh().ended == ("unchanged", 3)


def test_what_it_stood_for_is_found_again_after_the_next_refresh(home: Home, site: Site) -> None:
    before = states(home)
    vectors = cached(home)
    receipt = erase(home, site, "/twin")
    assert receipt.same_content_at == receipt.stood_for == (site.url + "/twin-again",)
    check_gone(home, before, site.url + "/twin")
    for manifest in kept_manifests(home.db, KEY):
        twin = read_document(VersionReader(home.store(), manifest), site.url + "/twin-again")
        assert "born of one tree" in twin.markdown
    assert cached(home) >= vectors - 2, "the other tenant's are its own; of ours the twin's alone may go"
    refreshed = home.refresh()
    assert refreshed.status == "ready", refreshed.message
    assert "/twin-again" in shown(home)
    assert site.url + "/twin-again" in {hit["key"] for hit in home.hits("twins are born of one tree")}


def test_texts_that_another_kb_of_the_tenant_has_keep_their_vectors(home: Home, site: Site) -> None:
    home.apply(site, OTHER_KB)
    assert home.refresh(OTHER_KB).status == "ready"
    theirs = home.store(OTHER_KB)
    used = set(theirs.tables.open("chunks").read_columns(["text_hash"])["text_hash"])
    erase(home, site)
    (name,) = theirs.vectors.names("model_")
    assert used <= set(theirs.vectors.open(name).read_columns(["text_hash"])["text_hash"])
    assert home.refresh(OTHER_KB).ended == ("unchanged", 1)
    assert "/secret" in shown(home, OTHER_KB)
    gone = erase(home, site, key=OTHER_KB)
    assert gone.status == "erased"
    assert cached(home) < len(used) + 4


def test_the_document_of_another_tenant_stays(home: Home, site: Site) -> None:
    live = home.live(OTHER_TENANT)
    erase(home, site)
    assert home.live(OTHER_TENANT) == live
    verify_version(home.store(OTHER_TENANT), live)
    assert read_raw_bytes(home.reader(OTHER_TENANT), site.url + "/secret").count(b"zyxquombat") == 1
    assert home.refresh(OTHER_TENANT).ended == ("unchanged", 1)
    assert "/secret" in shown(home, OTHER_TENANT)


def test_a_kb_that_is_being_written_is_left_as_it_is(home: Home, site: Site) -> None:
    before = files(home)
    with hold_lease(home.db, KEY, "a-run"), pytest.raises(LeaseHeld):
        erase(home, site)
    assert files(home) == before
    assert find_receipt(home.db, KEY, site.url + "/secret") is None


def test_an_earlier_version_can_be_made_live_afterwards(home: Home, site: Site) -> None:
    before = states(home)
    erase(home, site)
    rollback_kb(home.settings, home.db, KEY, 1)
    assert home.live().version == 1
    assert shown(home) == sorted("/" + key.rsplit("/", 1)[1] for key in before[1].texts if "secret" not in key)
    verify_version(home.store(), home.live())


def test_rolled_back_versions_are_purged_too(home: Home, site: Site) -> None:
    before = states(home)
    rollback_kb(home.settings, home.db, KEY, 2)
    erase(home, site)
    check_gone(home, before, site.url + "/secret")


def test_versions_of_two_models_are_purged(home: Home, site: Site) -> None:
    home.apply(site, embedding={"model": "multilingual-e5-small"})
    assert home.refresh().ended == ("ready", 5)
    before = states(home)
    receipt = erase(home, site)
    indexes = [place for place in receipt.places if place.place.startswith("table index_")]
    assert len(indexes) == 2
    assert all(place.removed for place in indexes)
    check_gone(home, before, site.url + "/secret")
    assert [path for path in places_with(home, *CANARIES) if "rival" not in path] == []
    assert home.refresh().ended == ("unchanged", 5)


def test_the_only_document_of_a_kb_can_be_erased(tmp_path: Path, models_dir: Path) -> None:
    with serve_site() as alone:
        alone.put("/", "On flummoxite", "The grobblewick is a zyxquombat that was told in confidence to one of us.")
        home = Home(tmp_path / "home", models_dir)
        home.apply(alone)
        assert home.refresh().ended == ("ready", 1)
        erase(home, alone, "/")
    assert places_with(home, *CANARIES) == []
    assert shown(home) == []
    for mode in MODES:
        assert home.hits("zyxquombat", mode=mode) == []


def test_a_kill_at_any_step_leaves_the_live_version_answering_and_the_same_call_goes_on(
    grown: Home, site: Site, tmp_path: Path
) -> None:
    trace, whole = tmp_path / "trace", copied(grown, tmp_path / "whole")
    before = states(whole)
    assert kb(whole, "erase", str(KEY), site.url + "/secret", "--yes", KB_FAILPOINT_TRACE=str(trace)).returncode == 0
    passed = trace.read_text().split()
    steps = [name for name in dict.fromkeys(passed) if name.startswith("erase.") and name != "erase.receipt"]
    assert len(steps) >= 7
    steps += ["pages.restore.after:2", "index.delete.after:2", "index.text_index.after"]
    steps += ["raw.blank.before", "model.delete.after"]
    assert {step.split(":")[0] for step in steps} <= set(passed)
    for number, step in enumerate(spread(steps)):
        home = copied(grown, tmp_path / f"home-{number}")
        killed = kb(home, "erase", str(KEY), site.url + "/secret", "--yes", KB_FAILPOINT=step)
        assert killed.returncode == -9, (step, killed.stderr)
        for mode in MODES:
            assert site.url + "/pear" in {hit["key"] for hit in home.hits("pears poached in wine", None, mode)}, step
        expire_lease(home)
        receipt = erase(home, site)
        assert receipt.is_finished, step
        assert receipt.versions == (1, 2, 3), step
        check_gone(home, before, site.url + "/secret")
        assert [path for path in places_with(home, *CANARIES) if "rival" not in path] == [], step
        shutil.rmtree(home.settings.home)


def test_a_refresh_between_a_kill_and_the_rest_does_not_bring_it_back(home: Home, site: Site) -> None:
    killed = kb(home, "erase", str(KEY), site.url + "/secret", "--yes", KB_FAILPOINT="index.delete.after:2")
    assert killed.returncode == -9
    expire_lease(home)
    before = site.pages["/plum"]
    site.put("/plum", "Plum", "Plums are distilled into a clear brandy that is called slivovitz.")
    assert home.refresh().status == "ready"
    assert "/secret" not in shown(home)
    live = states(home)
    assert erase(home, site).is_finished
    check_gone(home, live, site.url + "/secret")
    assert home.refresh().status == "unchanged"
    site.pages["/plum"] = before


def test_samples_for_dagster_hold_nothing_that_documents_say(home: Home) -> None:
    said = {"title", "text", "words", "markdown", "headings", "context", "message"}
    assert not said & {column for columns in SAMPLE_COLUMNS.values() for column in columns}


@pytest.mark.upgrade("dagster")
def test_a_build_through_dagster_keeps_no_word_of_it(home: Home, site: Site) -> None:
    before = site.pages["/apple"]
    site.put("/apple", "Apple", "Apples are wassailed at the turn of the year.")
    built = kb(home, "build", str(KEY), "--json")
    site.pages["/apple"] = before
    assert json.loads(built.stdout)["status"] == "ready", built.stderr
    assert (home.settings.home / "dagster").is_dir()
    erase(home, site)
    assert [path for path in places_with(home, *CANARIES) if "rival" not in path] == []


def shown(home: Home, key: KbKey = KEY) -> list[str]:
    """Paths of the live version's documents."""
    return home.keys(key)


def cached(home: Home) -> int:
    """Vectors of the tenant."""
    folder = home.store().vectors
    return sum(folder.open(name).count() for name in folder.names("model_"))


def files(home: Home) -> dict[str, int]:
    """Everything stored, by its modification time."""
    data = home.settings.data_dir
    return {str(path): path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}


def expire_lease(home: Home) -> None:
    """As if a minute had passed since the kill."""
    with home.db.write_all() as session:
        session.get_one(Lease, (KEY.tenant, KEY.kb)).expires_at = time.time() - 1


def kb(home: Home, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return warm.run("kb_pipeline", arguments, os.environ | home_environment(home.settings.home) | environment)


def test_a_plan_says_what_an_erasure_removes_and_changes_nothing(home: Home, site: Site) -> None:
    before = home.answers(3, "zyxquombat", "twins of one tree")
    plan = plan_erasure(home.settings, home.db, KEY, site.url + "/secret")
    assert (plan.versions, plan.pending_versions, plan.bodies, plan.same_content_at) == ((1, 2, 3), (4,), 2, ())
    assert (plan.chunks, plan.vectors) == (2, 2), "of its text before it changed, and since"
    twins = plan_erasure(home.settings, home.db, KEY, site.url + "/twin")
    assert (twins.same_content_at, twins.vectors) == ((site.url + "/twin-again",), 1)
    assert home.answers(3, "zyxquombat", "twins of one tree") == before
    receipt = erase(home, site)
    assert receipt.versions == plan.versions
    removed = {place.place: place.removed for place in receipt.places}
    assert removed["raw segments"] >= plan.bodies, "rows, some of which hold only links"
    assert sum(count for place, count in removed.items() if place.startswith("embedding cache")) == plan.vectors
    assert plan_erasure(home.settings, home.db, KEY, site.url + "/secret").document_ids == ()
    with pytest.raises(UnknownDocument):
        plan_erasure(home.settings, home.db, KEY, site.url + "/nothing")


def test_kb_erase_asks_first_and_its_dry_run_changes_nothing(home: Home, site: Site) -> None:
    asked = kb(home, "erase", str(KEY), site.url + "/secret")
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    planned = json.loads(kb(home, "erase", str(KEY), site.url + "/secret", "--dry-run", "--json").stdout)
    assert (planned["versions"], planned["bodies"]) == ([1, 2, 3], 2)
    told = kb(home, "erase", str(KEY), site.url + "/secret", "--dry-run").stdout
    assert "nothing was removed; kb erase would remove:" in told
    assert find_receipt(home.db, KEY, site.url + "/secret") is None
