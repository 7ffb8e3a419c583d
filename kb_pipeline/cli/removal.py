"""`kb tenant delete --now` and `kb delete`: what they need of Dagster, and how a receipt is shown to people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kb_pipeline.cli.output import out, print_json, print_table
from kb_pipeline.cli.session import Session
from kb_pipeline.control.tenancy.tenants import get_tenant, schedule_deletion
from kb_pipeline.errors import UnknownTenant, UsageError
from kb_pipeline.operations.delete import RunHistory, delete_kb, delete_tenant

if TYPE_CHECKING:
    from kb_pipeline.model import KbKey

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)


def parse_grace(text: str) -> timedelta:
    """A time such as 30m, 12h or 7d; raises UsageError."""
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    grace = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if grace is None or grace > _LONGEST:
        raise UsageError(f"grace {text!r}: give a whole number of m, h or d, as in 12h or 7d; at most ten years")
    return grace


def delete_tenant_now(session: Session, tenant: str) -> dict[str, Any]:
    """Make its deletion due, and do it; for one that is removed already, the kept receipt."""
    try:
        if get_tenant(session.db, tenant).status != "removing":
            schedule_deletion(session.db, tenant, timedelta(0), session.settings.actor)
    except UnknownTenant:
        pass  # removed before: there is a receipt; or there never was one, which is said then
    with _history(session) as history:
        return delete_tenant(session.settings, session.db, history, tenant)


def delete_one_kb(session: Session, key: KbKey) -> dict[str, Any]:
    """Remove a KB."""
    with _history(session) as history:
        return delete_kb(session.settings, session.db, history, key)


@contextmanager
def _history(session: Session) -> Iterator[RunHistory]:
    from kb_pipeline.defs.instance import open_instance
    from kb_pipeline.defs.removal import DagsterHistory

    with open_instance(session.settings) as instance:
        yield DagsterHistory(instance)


def print_removal(receipt: Mapping[str, Any], *, as_json: bool) -> None:
    """Every place that something was removed from, and what was looked through again."""
    if as_json:
        print_json(receipt)
        return
    out.print(
        f"{receipt['key']}: {receipt['status']} at {receipt.get('removed_at', receipt.get('begun_at'))}", markup=False
    )
    places = receipt.get("places", [])
    print_table(["place", "removed", "bytes"], ([p["place"], p["removed"], p.get("bytes", "")] for p in places))
    print_table(["looked through again", "found"], ([c["store"], c["found"]] for c in receipt.get("checks", [])))
    for line in receipt.get("not_reached", []):
        out.print(f"not reached: {line}", markup=False)
