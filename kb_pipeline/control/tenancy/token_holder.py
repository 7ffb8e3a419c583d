"""Who shows a valid token: a tenant's program or user with some rights, or an operator from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from kb_pipeline.model import KbKey

Scope = Literal["read", "build", "manage", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""None includes another: a token that is to read and to build has both."""
Kind = Literal["API key", "operator key", "token"]

_ACTORS: dict[Kind, str] = {"API key": "key", "operator key": "operator key", "token": "token"}
"""What stands before the id of somebody who did something, in the audit log."""
_OF_TENANTS = ("key ", "token ")


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """Whoever showed a valid token, and what it allows."""

    kind: Kind
    id: str
    """Public: the id of the key, or the subject of the JSON Web Token."""
    tenant: str | None
    """None for an operator key, which is no tenant's."""
    scopes: frozenset[str]
    kbs: frozenset[str] | None = None
    """The only KBs that it may see, by their names within the tenant; None for all of the tenant's."""
    expires_at: datetime | None = None
    requests_per_minute: int | None = None
    """Its own rate, beside that of its tenant's plan; None for none."""

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def actor(self) -> str:
        """The name in the audit log."""
        return f"{_ACTORS[self.kind]} {self.id}"

    def sees(self, key: KbKey) -> bool:
        """Return whether a KB, if there is one of that key, may be seen."""
        if self.tenant is None:
            return True
        return key.tenant == self.tenant and (self.kbs is None or key.kb in self.kbs)


def is_tenants_actor(actor: str) -> bool:
    """Return whether the audit log's actor acted for a tenant; an operator who takes such a name is taken for one."""
    return actor.startswith(_OF_TENANTS)
