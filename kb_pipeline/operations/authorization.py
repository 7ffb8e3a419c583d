"""Decides what a caller may do: the operator everything, others what their token's scopes allow on its tenant's KBs.

A token may be for some of the tenant's KBs only: others, like KBs of another tenant, are treated as if they did not
exist, and what concerns the whole tenant (its keys, secrets, quota, audit log) is refused to it.

The holder of a token need not be a user of this machine, since a service may act for it: so it reads and writes files
only beneath the working folder of the process, outside of the installation's own, and a tenant's opens no embedding
model that the operator did not name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from kb_pipeline.control.tenancy.token_holder import Scope, TokenHolder
from kb_pipeline.errors import NotAllowed, UnknownKb, UnknownTenant
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings

_READING = (
    "list", "show", "status", "search", "ask", "documents", "page", "failures", "explain", "versions", "diff", "export",
    "replay", "quota", "usage", "logs",
)  # fmt: skip
_ADMINISTRATION = (
    "key create", "key list", "key revoke", "secret set", "secret list", "secret delete", "flag list", "tenant show",
)  # fmt: skip
SCOPES: dict[str, Scope] = {
    **dict.fromkeys(_READING, "read"),
    **dict.fromkeys(("build", "retry", "cancel"), "build"),
    **dict.fromkeys(("apply", "rollback", "approve", "erase", "audit list", "build --force"), "manage"),
    **dict.fromkeys(_ADMINISTRATION, "admin"),
}
"""The scope that a token needs for each operation, which is named as its command; all others are the operator's."""
OF_WHOLE_TENANT = frozenset({"quota", "audit list", *_ADMINISTRATION})
"""What tells or changes something of all KBs of a tenant: refused to tokens that are for some of them."""

STDIN = Path("/dev/stdin")
"""The path by which the holder of a token hands over a file's content."""


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom an operation is done: the operator at this machine, or the holder of a token."""

    actor: str
    """The name in the audit log."""
    holder: TokenHolder | None = None
    """None for the operator at this machine."""

    @property
    def is_operator(self) -> bool:
        """Whether the caller runs the installation and may do everything."""
        return self.holder is None or self.holder.tenant is None

    @property
    def tenant(self) -> str | None:
        """The only tenant whose KBs the caller can see; None for the operator, who sees all."""
        return None if self.holder is None else self.holder.tenant

    @property
    def kbs(self) -> frozenset[str] | None:
        """The only KBs of the tenant that the caller can see, by name; None for all."""
        return None if self.holder is None else self.holder.kbs

    @property
    def expires_at(self) -> datetime | None:
        """Until when the caller's token is valid; None for ever."""
        return None if self.holder is None else self.holder.expires_at

    def require(self, operation: str) -> None:
        """Raise NotAllowed unless the caller may do the operation."""
        if self.holder is None or self.is_operator:
            return
        if operation not in SCOPES:
            raise NotAllowed(
                self.holder, f"kb {operation} is for whoever runs this installation, not for tokens of a tenant"
            )
        if (scope := SCOPES[operation]) not in self.holder.scopes:
            has = ", ".join(sorted(self.holder.scopes))
            raise NotAllowed(self.holder, f"this takes the scope {scope!r}; it has {has}")
        if operation in OF_WHOLE_TENANT:
            self.require_whole_tenant()

    def require_whole_tenant(self) -> None:
        """Raise NotAllowed if the caller's token is for some KBs of its tenant only."""
        if self.kbs is not None:
            raise NotAllowed(self.holder, "it is for some KBs only, and this concerns the whole tenant")

    def require_tenant(self, tenant: str) -> None:
        """Raise NotAllowed for another tenant than the caller's."""
        if self.holder is not None and self.holder.tenant not in (None, tenant):
            raise NotAllowed(self.holder, f"it is for KBs of tenant {self.holder.tenant}")

    def require_kb(self, key: KbKey) -> None:
        """Raise NotAllowed for a KB that the caller could not see, whether or not it exists."""
        self.require_tenant(key.tenant)
        if self.holder is not None and not self.holder.sees(key):
            raise NotAllowed(self.holder, f"it is for the KBs {', '.join(sorted(self.holder.kbs or ()))} only")

    def require_scopes(self, scopes: Collection[str]) -> None:
        """Raise NotAllowed for scopes that the caller lacks: nobody gives another one more than they have."""
        if self.holder is not None and (lacking := set(scopes) - self.holder.scopes):
            raise NotAllowed(self.holder, f"it cannot give {', '.join(sorted(lacking))}, which it does not have")

    def visible_kb(self, key: KbKey) -> KbKey:
        """Return the key if the caller can see such a KB; raise UnknownKb if not, also if it exists."""
        if self.holder is not None and not self.holder.sees(key):
            raise UnknownKb(key)
        return key

    def sees(self, key: KbKey) -> bool:
        """Return whether the caller can see such a KB."""
        return self.holder is None or self.holder.sees(key)

    def tenant_named(self, tenant: str | None) -> str | None:
        """Return the tenant; without one the caller's own, which for the operator is None.

        Raises:
            UnknownTenant: it is not the caller's, whether or not it exists.
        """
        if self.tenant is None:
            return tenant
        if tenant and tenant != self.tenant:
            raise UnknownTenant(tenant)
        return self.tenant

    def visible_path(self, path: Path, settings: Settings) -> Path:
        """Return the path if the caller may name it; raise NotAllowed if not, whether or not it exists."""
        if self.holder is not None and not _lies_beneath_working_folder(path, settings):
            raise NotAllowed(
                self.holder,
                f"{path}: with a key, files lie beneath the folder that kb is run in, and outside of what is the "
                "installation's; what is to be read may also come on /dev/stdin",
            )
        return path

    def readable_path(self, path: Path, settings: Settings) -> Path:
        """Return the path if the caller may read from it, as from standard input; raise NotAllowed if not."""
        return path if path == STDIN else self.visible_path(path, settings)


class Called(Protocol):
    """An object whose methods act for a caller."""

    @property
    def caller(self) -> Caller:
        """The caller for whom it acts."""
        ...


_Self = TypeVar("_Self", bound=Called)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Method = Callable[Concatenate[_Self, _Parameters], _Result]


def operation(
    name: str,
) -> Callable[[_Method[_Self, _Parameters, _Result]], _Method[_Self, _Parameters, _Result]]:
    """Mark a method as the named operation: it raises NotAllowed for callers who may not do that."""

    def guard(method: _Method[_Self, _Parameters, _Result]) -> _Method[_Self, _Parameters, _Result]:
        def guarded(self: _Self, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
            self.caller.require(name)
            return method(self, *args, **kwargs)

        functools.update_wrapper(guarded, method)
        vars(guarded)["operation"] = name
        return guarded

    return guard


def _lies_beneath_working_folder(path: Path, settings: Settings) -> bool:
    of_installation = (settings.home, settings.data_dir, settings.secret_keys_file, settings.database_url_file)
    try:
        place = path.resolve()  # where links lead
    except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL
        return False
    if str(path).startswith("~") or not place.is_relative_to(Path.cwd().resolve()):
        return False
    return not any(place.is_relative_to(each) for each in of_installation if each is not None)
