"""Who has which variant of a flag, why, and how soon other processes know; on both databases."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.provider._registry import provider_registry
from sqlalchemy import text

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import FlagOverride, Kb, Tenant
from kb_pipeline.control.flags import provider
from kb_pipeline.control.flags.overrides import (
    EVERYBODY,
    FlagState,
    Rollout,
    Scope,
    clear_flag,
    list_states,
    set_rollout,
    set_variant,
)
from kb_pipeline.control.flags.provider import (
    ControlPlaneProvider,
    choose,
    evaluate_flags,
    open_client,
    read_flags,
)
from kb_pipeline.control.flags.registry import CLEAN_FOCUS, JOIN_SECTIONS
from kb_pipeline.control.runs.refreshes import begin_refresh
from kb_pipeline.control.tenancy import audit
from kb_pipeline.errors import (
    FlagNotSet,
    FlagUnreadable,
    InvalidRollout,
    UnknownFlag,
    UnknownKb,
    UnknownTenant,
    UnknownVariant,
)
from kb_pipeline.model import KbKey

DOCS, WIKI, THEIRS = KbKey("acme", "docs"), KbKey("acme", "wiki"), KbKey("globex", "docs")
FOCUS, JOIN = CLEAN_FOCUS.name, JOIN_SECTIONS.name


@pytest.fixture
def plane(db: Database) -> Database:
    """Return a control plane with two KBs of one tenant and one of another."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    times = {"created_at": now, "updated_at": now}
    with db.write_all() as session:
        session.add_all(
            Tenant(tenant=tenant, plan="default", status="active", **times) for tenant in ("acme", "globex")
        )
        session.add_all(
            Kb(tenant=key.tenant, kb=key.kb, spec="", timezone="UTC", **times) for key in (DOCS, WIKI, THEIRS)
        )
    return db


def focus(db: Database, key: KbKey) -> tuple[str | None, Any, Any]:
    (found,) = (choice for choice in evaluate_flags(db, key) if choice.flag == FOCUS)
    return found.variant, found.reason, found.set_for


def test_a_kbs_own_variant_comes_before_its_tenants_then_the_rollout_then_the_default(plane: Database) -> None:
    assert focus(plane, DOCS) == ("balanced", Reason.STATIC, "default")
    set_variant(plane, FOCUS, "precision", EVERYBODY, "ann")
    assert focus(plane, DOCS) == ("precision", Reason.STATIC, "default")
    set_rollout(plane, FOCUS, [("recall", 0)], "ann")
    assert focus(plane, DOCS) == ("precision", Reason.DEFAULT, "default")
    set_rollout(plane, FOCUS, [("recall", 100)], "ann")
    assert focus(plane, DOCS) == ("recall", Reason.SPLIT, "rollout")
    set_variant(plane, FOCUS, "balanced", Scope("acme"), "ann")
    assert focus(plane, DOCS) == ("balanced", Reason.TARGETING_MATCH, "tenant")
    set_variant(plane, FOCUS, "precision", Scope("acme", "docs"), "ann")
    assert focus(plane, DOCS) == ("precision", Reason.TARGETING_MATCH, "kb")
    assert focus(plane, WIKI)[0] == "balanced"
    assert focus(plane, THEIRS)[0] == "recall", "another tenant is not concerned"
    for scope, left in ((Scope("acme", "docs"), "balanced"), (Scope("acme"), "recall"), (EVERYBODY, "balanced")):
        clear_flag(plane, FOCUS, scope, "ann")
        assert focus(plane, DOCS)[0] == left


def test_what_is_set_is_listed_and_each_change_is_in_the_log_of_whom_it_concerns(plane: Database) -> None:
    set_variant(plane, JOIN, "off", Scope("acme"), "ann")
    set_rollout(plane, JOIN, [("off", 12.5)], "ann")
    (state,) = (row for row in list_states(plane) if row.flag == JOIN)
    assert (state.default, state.rollout, state.overrides) == ("on", {"off": 12.5}, {"acme": "off"})
    set_variant(plane, JOIN, "on", Scope("acme"), "ben")
    clear_flag(plane, JOIN, Scope("acme"), "ben")
    told = [(e.action, e.actor, e.subject, e.before, e.after) for e in audit.list_entries(plane, "acme")]
    off, on = {"variant": "off"}, {"variant": "on"}
    assert told == [
        ("flag.set", "ann", f"{JOIN} acme", None, off),
        ("flag.set", "ben", f"{JOIN} acme", off, on),
        ("flag.clear", "ben", f"{JOIN} acme", on, None),
    ]
    (entry,) = audit.list_entries(plane, audit.INSTALLATION)
    assert (entry.action, entry.after) == ("flag.rollout", {"rollout": [["off", 12.5]]})


# -- rollouts


def in_rollout(rollout: Rollout) -> dict[str, set[int]]:
    chosen: dict[str, set[int]] = {variant: set() for variant in CLEAN_FOCUS.variants}
    for number in range(10_000):
        key = KbKey(f"tenant-{number % 100}", f"kb-{number}")
        chosen[choose(CLEAN_FOCUS, FlagState(rollout=rollout), key)[0]].add(number)
    return chosen


def test_a_rollout_reaches_about_its_percentage_and_keeps_whom_it_reached() -> None:
    reached = {percent: in_rollout((("recall", percent),))["recall"] for percent in (0.0, 1.0, 10.0, 20.0, 50.0, 100.0)}
    for percent, chosen in reached.items():
        assert abs(len(chosen) - percent * 100) <= 150
    assert (len(reached[0.0]), len(reached[100.0])) == (0, 10_000)
    assert reached[1.0] < reached[10.0] < reached[20.0] < reached[50.0]
    assert in_rollout((("recall", 10.0),))["recall"] == reached[10.0]


def test_shares_of_several_variants_do_not_overlap_and_the_rest_has_the_default() -> None:
    both = in_rollout((("recall", 30.0), ("precision", 20.0)))
    assert {variant: round(len(chosen), -3) for variant, chosen in both.items()} == {
        "balanced": 5000, "recall": 3000, "precision": 2000,
    }  # fmt: skip
    gone = in_rollout((("of another release", 30.0), ("precision", 20.0)))
    assert gone["precision"] == both["precision"]
    assert gone["balanced"] == both["balanced"] | both["recall"]


def test_every_flag_has_a_first_tenth_of_its_own() -> None:
    keys = [KbKey("acme", f"kb-{number}") for number in range(2000)]
    firsts = [
        {key for key in keys if choose(flag, FlagState(rollout=((variant, 10.0),)), key)[1] == "rollout"}
        for flag, variant in ((CLEAN_FOCUS, "recall"), (JOIN_SECTIONS, "off"))
    ]
    assert len(firsts[0] & firsts[1]) < 0.3 * len(firsts[0])


# -- mistakes


def test_what_does_not_exist_is_refused_with_what_does(plane: Database) -> None:
    with pytest.raises(UnknownFlag, match="'clean-focsu' is no flag; there are clean-focus, chunk-join-sections"):
        set_variant(plane, "clean-focsu", "recall", EVERYBODY, "ann")
    with pytest.raises(UnknownVariant, match="no variant 'all'; it has balanced, recall, precision"):
        set_variant(plane, FOCUS, "all", EVERYBODY, "ann")
    with pytest.raises(UnknownVariant):
        set_rollout(plane, FOCUS, [("all", 10)], "ann")
    with pytest.raises(UnknownTenant):
        set_variant(plane, FOCUS, "recall", Scope("acne"), "ann")
    with pytest.raises(UnknownKb):
        set_variant(plane, FOCUS, "recall", Scope("globex", "wiki"), "ann")
    for scope in (EVERYBODY, Scope("acme"), Scope("acme", "docs")):
        with pytest.raises(FlagNotSet):
            clear_flag(plane, FOCUS, scope, "ann")
    assert list(audit.list_entries(plane, audit.INSTALLATION)) == []
    assert read_flags(plane, DOCS) == {FOCUS: "balanced", JOIN: True}


@pytest.mark.parametrize(
    "shares",
    [
        [("recall", 60.0), ("precision", 41.0)],
        [("recall", -1.0)],
        [("recall", float("nan"))],
        [("recall", float("inf"))],
        [("recall", 1.0), ("recall", 2.0)],
    ],
    ids=["more than all", "less than none", "nan", "inf", "twice"],
)
def test_percentages_that_cannot_be_are_refused(plane: Database, shares: list[tuple[str, float]]) -> None:
    with pytest.raises(InvalidRollout):
        set_rollout(plane, FOCUS, shares, "ann")
    assert focus(plane, DOCS)[1] == Reason.STATIC


def test_a_variant_that_this_release_does_not_know_counts_as_not_set(plane: Database) -> None:
    newer = {"flag": FOCUS, "variant": "telepathic", "updated_at": datetime(2026, 1, 1, tzinfo=UTC)}
    with plane.write("acme") as session:
        session.add(FlagOverride(tenant="acme", kb="docs", **newer))
    assert focus(plane, DOCS) == ("balanced", Reason.STATIC, "default")


# -- OpenFeature


def test_openfeatures_clients_get_values_or_the_standards_error_codes(plane: Database) -> None:
    client, docs = open_client(plane, 0.0), EvaluationContext("acme/docs")
    set_variant(plane, JOIN, "off", Scope("acme", "docs"), "ann")
    assert client.get_boolean_value(JOIN, True, docs) is False
    assert client.get_string_value(FOCUS, "recall", docs) == "balanced"
    wrong = {
        ErrorCode.FLAG_NOT_FOUND: client.get_boolean_details("no-such-flag", True, docs),
        ErrorCode.TYPE_MISMATCH: client.get_integer_details(JOIN, 7, docs),
        ErrorCode.TARGETING_KEY_MISSING: client.get_boolean_details(JOIN, True),
        ErrorCode.INVALID_CONTEXT: client.get_boolean_details(JOIN, True, EvaluationContext("../etc")),
    }
    for code, found in wrong.items():
        assert (found.error_code, found.reason, bool(found.value)) == (code, Reason.ERROR, True)
    assert client.get_string_details(JOIN, "x", docs).error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_float_details(JOIN, 1.5, docs).error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_object_details(FOCUS, {"a": 1}, docs).error_code == ErrorCode.TYPE_MISMATCH
    assert client.get_boolean_details(FOCUS, True, docs).error_code == ErrorCode.TYPE_MISMATCH


def test_a_control_plane_that_does_not_answer_is_an_error_and_no_default(plane: Database) -> None:
    with plane.write_all() as session:
        session.execute(text("DROP TABLE flag_changes"))
    with pytest.raises(FlagUnreadable):
        read_flags(plane, DOCS)


def test_what_was_read_is_kept_until_it_is_looked_for_again(plane: Database) -> None:
    client, docs = open_client(plane, 3600.0), EvaluationContext("acme/docs")
    assert client.get_boolean_value(JOIN, True, docs) is True
    set_variant(plane, JOIN, "off", EVERYBODY, "ann")
    assert client.get_boolean_value(JOIN, True, docs) is True
    client.provider.look_again()
    assert client.get_boolean_value(JOIN, True, docs) is False


_CHANGED_ELSEWHERE = """
import sys
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.flags.overrides import Scope, set_variant
set_variant(Database(sys.argv[1]), "chunk-join-sections", "off", Scope("acme"), "another process")
"""


def test_a_change_by_another_process_is_seen_within_the_time_between_two_looks(plane: Database) -> None:
    client, docs = open_client(plane, 0.05), EvaluationContext("acme/docs")
    assert client.get_boolean_value(JOIN, True, docs) is True
    url = plane.url.render_as_string(hide_password=False)
    subprocess.run([sys.executable, "-c", _CHANGED_ELSEWHERE, url], check=True)
    time.sleep(0.05)
    assert client.get_boolean_value(JOIN, True, docs) is False


def test_two_installations_in_one_process_share_neither_provider_nor_flags(
    plane: Database, migrated_sqlite: Path, tmp_path: Path
) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "other.db")
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    set_variant(plane, JOIN, "off", EVERYBODY, "ann")
    ours, theirs, docs = open_client(plane), open_client(other), EvaluationContext("acme/docs")
    assert [client.get_boolean_value(JOIN, True, docs) for client in (ours, theirs, ours)] == [False, True, False]
    assert (read_flags(plane, DOCS)[JOIN], read_flags(other, DOCS)[JOIN]) == (False, True)
    other.dispose()
    assert read_flags(plane, DOCS)[JOIN] is False


def test_reading_flags_registers_nothing_for_the_whole_process(plane: Database) -> None:
    before = api.get_client().provider
    read_flags(plane, DOCS)
    assert provider_registry._providers == {}
    assert api.get_client().provider is before


def test_a_provider_can_be_registered_by_whoever_wants_the_standards_way(plane: Database) -> None:
    api.set_provider_and_wait(ControlPlaneProvider(plane), "test")
    assert api.get_client("test").get_string_value(FOCUS, "recall", EvaluationContext("acme/docs")) == "balanced"
    api.clear_providers()


def test_a_provider_keeps_the_flags_of_the_tenants_asked_for_last(
    plane: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "_MOST_TENANTS", 2)
    client = open_client(plane, 3600.0)
    for tenant in ("acme", "globex", "acme", "initech"):
        assert client.get_boolean_value(JOIN, False, EvaluationContext(f"{tenant}/docs")) is True
    assert list(client.provider._states) == ["acme", "initech"]


def test_flags_print_as_they_always_did(plane: Database) -> None:
    set_rollout(plane, FOCUS, [("recall", 10)], "ann")
    set_variant(plane, FOCUS, "precision", Scope("acme", "docs"), "ann")
    (state,) = (row for row in list_states(plane) if row.flag == FOCUS)
    assert list(state.as_json().items()) == [
        ("flag", FOCUS),
        ("about", CLEAN_FOCUS.about),
        ("variants", {"balanced": "balanced", "recall": "recall", "precision": "precision"}),
        ("default", "balanced"),
        ("rollout", {"recall": 10}),
        ("overrides", {"acme/docs": "precision"}),
    ]
    (choice,) = (choice for choice in evaluate_flags(plane, DOCS) if choice.flag == FOCUS)
    assert list(choice.as_json().items()) == [
        ("flag", FOCUS),
        ("variant", "precision"),
        ("value", "precision"),
        ("reason", "TARGETING_MATCH"),
        ("set_for", "kb"),
    ]


# -- refreshes


def test_a_run_goes_by_the_flags_it_began_with(plane: Database) -> None:
    first = begin_refresh(plane, DOCS, "run-1", lambda: {FOCUS: "recall"})
    later = begin_refresh(plane, DOCS, "run-1", lambda: {FOCUS: "precision", "flag-of-a-newer-release": True})
    assert first == ({FOCUS: "recall"}, True)
    assert later == ({FOCUS: "recall", "flag-of-a-newer-release": True}, False)
    assert begin_refresh(plane, DOCS, "run-2", lambda: {FOCUS: "precision"}) == ({FOCUS: "precision"}, True)


def test_a_later_step_of_a_run_reads_no_flags(plane: Database) -> None:
    all_flags: dict[str, bool | str] = {FOCUS: "recall", JOIN: True}
    begin_refresh(plane, DOCS, "run-1", lambda: all_flags)

    def unread() -> dict[str, bool | str]:
        raise AssertionError("the run has recorded every flag there is")

    assert begin_refresh(plane, DOCS, "run-1", unread) == (all_flags, False)
