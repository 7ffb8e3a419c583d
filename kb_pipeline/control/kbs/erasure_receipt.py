"""The receipt of an erased document: every place that held something of it, and that nothing is left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from kb_pipeline.errors import DamagedStore
from kb_pipeline.json_fields import JsonFields
from kb_pipeline.model import JsonObject, KbKey, Record


@dataclass(frozen=True, slots=True)
class ErasedPlace(Record):
    """A place that was looked into, and what was removed there."""

    place: str
    removed: int
    what: str
    """What is counted: rows, files, bytes, ..."""
    versions: tuple[int, ...] | None = None
    files: tuple[str, ...] | None = None
    segments: tuple[str, ...] | None = None

    def as_json(self) -> JsonObject:
        """Return the fields that say something."""
        return {name: value for name, value in Record.as_json(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class ErasureCheck(Record):
    """A store that was looked through once more, and how much of the document was found there."""

    store: str
    found: int


@dataclass(frozen=True, slots=True)
class ErasureReceipt(Record):
    """What `kb erase` did."""

    kb: KbKey
    key: str
    """Of the document."""
    document_ids: tuple[str, ...]
    """One for each source that ever had the key."""
    erased_at: datetime
    by: str
    """Who held the KB's lease."""
    versions: tuple[int, ...]
    """The kept versions that it was taken out of."""
    same_content_at: tuple[str, ...]
    """Keys of other documents with the same bytes or text; they stay."""
    stood_for: tuple[str, ...]
    """Of these, those that the document stood for in the index."""
    not_reached: tuple[str, ...]
    """Places that an erasure does not reach."""
    earlier: tuple[ErasureReceipt, ...]
    """Receipts of erasures of the same key that were lifted since."""
    status: Literal["unfinished", "erased"]
    """`unfinished` until everything has been looked through once more."""
    places: tuple[ErasedPlace, ...] = ()
    checks: tuple[ErasureCheck, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether everything is removed and was looked through once more."""
        return self.status == "erased"

    def finished(self, places: tuple[ErasedPlace, ...], checks: tuple[ErasureCheck, ...]) -> ErasureReceipt:
        """Return the receipt of the erasure at its end."""
        return replace(self, status="erased", places=places, checks=checks)

    def as_json(self) -> JsonObject:
        """Return the receipt as it is stored and printed; places and checks are there once it is finished."""
        fields = Record.as_json(self)
        for receipt in fields["earlier"]:
            del receipt["earlier"]
        if not self.is_finished:
            del fields["places"], fields["checks"]
        return fields

    @classmethod
    def from_json(cls, value: object) -> ErasureReceipt:
        """Read a receipt from its JSON object; raises DamagedStore."""
        try:
            return _read(JsonFields(value))
        except ValueError as error:
            raise DamagedStore("the receipt of an erasure", str(error)) from None


def _read(fields: JsonFields) -> ErasureReceipt:
    receipt = ErasureReceipt(
        kb=KbKey.parse(fields.text("kb")),
        key=fields.text("key"),
        document_ids=fields.text_list("document_ids"),
        erased_at=fields.moment("erased_at"),
        by=fields.text("by"),
        versions=fields.number_list("versions"),
        same_content_at=fields.text_list("same_content_at"),
        stood_for=fields.text_list("stood_for"),
        not_reached=fields.text_list("not_reached"),
        earlier=tuple(_read(each) for each in fields.inner_list("earlier", default=())),
        status="erased" if fields.text("status") == "erased" else "unfinished",
        places=tuple(_read_place(each) for each in fields.inner_list("places", default=())),
        checks=tuple(
            ErasureCheck(each.text("store"), each.number("found")) for each in fields.inner_list("checks", default=())
        ),
    )
    fields.require_known()
    return receipt


def _read_place(fields: JsonFields) -> ErasedPlace:
    return ErasedPlace(
        place=fields.text("place"),
        removed=fields.number("removed"),
        what=fields.text("what"),
        versions=fields.number_list("versions") if fields.has("versions") else None,
        files=fields.text_list("files") if fields.has("files") else None,
        segments=fields.text_list("segments") if fields.has("segments") else None,
    )
