"""Decides what a caller may do: the operator everything, an API key what its scopes allow on its own tenant's KBs.

KBs of another tenant are treated as if they did not exist. The holder of a key need not be a user of this machine,
since a service may act for it: so a key reads and writes files only beneath the working folder of the process, outside
of the installation's own, and opens no embedding model that the operator did not name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy.api_keys import KeyHolder, Scope, authenticate
from kb_pipeline.errors import NotAllowed, UnknownKb, UnknownTenant
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings

_READING = (
    "list", "show", "status", "search", "ask", "documents", "page", "failures", "explain", "versions", "diff", "export",
    "replay", "quota", "usage", "logs",
)  # fmt: skip
SCOPES: dict[str, Scope] = {
    **dict.fromkeys(_READING, "read"),
    **dict.fromkeys(("build", "retry", "cancel"), "build"),
    **dict.fromkeys(("apply", "rollback", "approve", "erase", "audit list", "build --force"), "manage"),
}
"""The scope that a key needs for each operation, which is named as its command; all others are the operator's."""

STDIN = Path("/dev/stdin")
"""The path by which the holder of a key hands over a file's content."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The operator or the holder of an API key, for whom an operation is done."""

    actor: str
    """The name in the audit log."""
    key: KeyHolder | None = None
    """The holder of the API key; None for the operator."""

    @property
    def is_operator(self) -> bool:
        """Whether the caller runs the installation and may do everything."""
        return self.key is None

    @property
    def tenant(self) -> str | None:
        """The only tenant whose KBs the caller can see; None for the operator, who sees all."""
        return None if self.key is None else self.key.tenant

    def require(self, operation: str) -> None:
        """Raise NotAllowed unless the caller may do the operation."""
        if self.key is None:
            return
        if operation not in SCOPES:
            name = f"kb {operation}"
            raise NotAllowed(self.key.id, f"{name} is for whoever runs this installation, not for API keys")
        if (scope := SCOPES[operation]) not in self.key.scopes:
            has = ", ".join(sorted(self.key.scopes))
            raise NotAllowed(self.key.id, f"this takes the scope {scope!r}; the key has {has}")

    def require_tenant(self, tenant: str) -> None:
        """Raise NotAllowed for another tenant than the caller's."""
        if self.key is not None and tenant != self.key.tenant:
            raise NotAllowed(self.key.id, f"it is for KBs of tenant {self.key.tenant}")

    def visible_kb(self, key: KbKey) -> KbKey:
        """Return the key if the caller can see its tenant's KBs; raise UnknownKb if not, also if it exists."""
        if self.key is not None and key.tenant != self.key.tenant:
            raise UnknownKb(key)
        return key

    def tenant_named(self, tenant: str | None) -> str | None:
        """Return the tenant; without one the caller's own, which for the operator is None.

        Raises:
            UnknownTenant: it is not the caller's, whether or not it exists.
        """
        if self.key is None:
            return tenant
        if tenant and tenant != self.key.tenant:
            raise UnknownTenant(tenant)
        return self.key.tenant

    def visible_path(self, path: Path, settings: Settings) -> Path:
        """Return the path if the caller may name it; raise NotAllowed if not, whether or not it exists."""
        if self.key is not None and not _lies_beneath_working_folder(path, settings):
            raise NotAllowed(
                self.key.id,
                f"{path}: with a key, files lie beneath the folder that kb is run in, and outside of what is the "
                "installation's; what is to be read may also come on /dev/stdin",
            )
        return path

    def readable_path(self, path: Path, settings: Settings) -> Path:
        """Return the path if the caller may read from it, as from standard input; raise NotAllowed if not."""
        return path if path == STDIN else self.visible_path(path, settings)


def identify(settings: Settings, db: Database, api_key: str | None) -> Caller:
    """Return the caller: the operator if no key is given, else the key's holder.

    Raises:
        KeyRefused, TenantInactive: the key is not valid, or its tenant is not active.
    """
    if api_key is None:
        return Caller(settings.actor)
    holder = authenticate(db, api_key)
    return Caller(holder.actor, holder)


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
