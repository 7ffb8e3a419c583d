"""The receipt of a deleted tenant or KB: every place that held something of it, and that nothing is left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from kb_pipeline.control.tenancy.tenants import UNFINISHED
from kb_pipeline.errors import DamagedStore
from kb_pipeline.json_fields import JsonFields
from kb_pipeline.model import JsonObject, Record


@dataclass(frozen=True, slots=True)
class DeletedPlace(Record):
    """A place that was emptied, and how many files, rows or records were removed there."""

    place: str
    removed: int
    bytes: int | None = None
    """Of files; None for rows and records."""

    def as_json(self) -> JsonObject:
        """Return the fields that say something."""
        return _without_none(Record.as_json(self))


@dataclass(frozen=True, slots=True)
class DeletionCheck(Record):
    """A store that was looked through once more after the deletion, and how much was found there."""

    store: str
    found: int


@dataclass(frozen=True, slots=True)
class DeletionReceipt(Record):
    """What `kb delete` or `kb tenant delete --now` did."""

    key: str
    """`tenant` or `tenant/kb`."""
    status: Literal["unfinished", "removed"]
    """`unfinished` until everything has been looked through once more."""
    by: str | None = None
    """Whose command or job it was."""
    begun_at: datetime | None = None
    """None for a KB that was deleted with its tenant."""
    earlier: tuple[DeletionReceipt, ...] = ()
    """Receipts of what had the key before and was deleted; without their own earlier ones."""
    kbs: tuple[str, ...] | None = None
    """The keys of the KBs that were deleted; None until the places are counted."""
    places: tuple[DeletedPlace, ...] | None = None
    removed_at: datetime | None = None
    checks: tuple[DeletionCheck, ...] | None = None
    not_reached: tuple[str, ...] | None = None
    """Places that a deletion does not reach."""
    with_tenant: str | None = None
    """The tenant with which a KB was deleted, whose receipt says the rest; `with` in JSON."""
    lease_token: int | None = None
    """The last token of a KB's lease: a KB that takes the key goes on from there, so that old writers stay out."""

    @property
    def is_finished(self) -> bool:
        """Whether everything is removed and was looked through once more."""
        return self.status == "removed"

    def counted(self, kbs: tuple[str, ...], places: tuple[DeletedPlace, ...]) -> DeletionReceipt:
        """Return the receipt with what there is to delete."""
        return replace(self, kbs=kbs, places=places)

    def with_place(self, place: DeletedPlace) -> DeletionReceipt:
        """Return the receipt with one more place."""
        return replace(self, places=(*(self.places or ()), place))

    def finished(
        self, at: datetime, checks: tuple[DeletionCheck, ...], not_reached: tuple[str, ...], lease_token: int | None
    ) -> DeletionReceipt:
        """Return the receipt of the deletion at its end."""
        return replace(
            self, status="removed", removed_at=at, checks=checks, not_reached=not_reached, lease_token=lease_token
        )

    def as_json(self) -> JsonObject:
        """Return the receipt as it is stored and printed: the fields that say something."""
        fields = Record.as_json(self)
        fields["with"] = fields.pop("with_tenant")
        fields["earlier"] = [receipt.as_entry() for receipt in self.earlier] if self.with_tenant is None else None
        return _without_none(fields)

    def as_entry(self) -> JsonObject:
        """Return the JSON without `earlier`, as the audit log and the receipt of a later deletion hold it."""
        fields = self.as_json()
        fields.pop("earlier", None)
        return fields

    @classmethod
    def from_json(cls, value: object) -> DeletionReceipt:
        """Read a receipt from its JSON object; raises DamagedStore."""
        try:
            return _read(JsonFields(value))
        except ValueError as error:
            raise DamagedStore("the receipt of a deletion", str(error)) from None


def is_unfinished(receipt: JsonObject) -> bool:
    """Whether a stored receipt is one of a deletion that has begun and not come to its end."""
    return bool(receipt.get("status") == UNFINISHED)


def _without_none(fields: JsonObject) -> JsonObject:
    return {name: value for name, value in fields.items() if value is not None}


def _read(fields: JsonFields) -> DeletionReceipt:
    return DeletionReceipt(
        key=fields.text("key"),
        status="unfinished" if fields.text("status") == UNFINISHED else "removed",
        by=fields.text("by") if fields.has("by") else None,
        begun_at=fields.moment("begun_at") if fields.has("begun_at") else None,
        earlier=tuple(_read(each) for each in fields.inner_list("earlier", default=())),
        kbs=fields.text_list("kbs") if fields.has("kbs") else None,
        places=_read_places(fields),
        removed_at=fields.moment("removed_at") if fields.has("removed_at") else None,
        checks=_read_checks(fields),
        not_reached=fields.text_list("not_reached") if fields.has("not_reached") else None,
        with_tenant=fields.text("with") if fields.has("with") else None,
        lease_token=fields.number("lease_token") if fields.has("lease_token") else None,
    )


def _read_places(fields: JsonFields) -> tuple[DeletedPlace, ...] | None:
    if not fields.has("places"):
        return None
    return tuple(
        DeletedPlace(
            each.text("place"), each.number("removed"), each.number("bytes") if each.has("bytes") else None
        )
        for each in fields.inner_list("places")
    )  # fmt: skip


def _read_checks(fields: JsonFields) -> tuple[DeletionCheck, ...] | None:
    if not fields.has("checks"):
        return None
    return tuple(DeletionCheck(each.text("store"), each.number("found")) for each in fields.inner_list("checks"))
