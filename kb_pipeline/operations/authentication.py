"""Tells who calls: the operator, or the holder of a token, whose form says of which kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy import api_keys, operator_keys
from kb_pipeline.control.tenancy.token_holder import TokenHolder
from kb_pipeline.operations.authorization import Caller
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    from kb_pipeline.operations.json_web_tokens import TokenReader


class Authenticator:
    """Recognises callers; one for the life of an installation, since it keeps the keys of issuers."""

    def __init__(self, settings: Settings, db: Database) -> None:
        """Raise InvalidSpec or InvalidSetting for roles that are not valid."""
        self._actor, self._db = settings.actor, db
        self._tokens = _token_reader(settings, db)

    def identify(self, token: str | None) -> Caller:
        """Return the caller: the operator if no token is given, else the token's holder.

        Args:
            token: an API key, an operator key or a JSON Web Token.

        Raises:
            KeyRefused, TenantInactive: the token is not valid, or its tenant is not active.
            IssuerAway: the issuer of a JSON Web Token cannot be asked for its keys.
        """
        if token is None:
            return Caller(self._actor)
        holder = self._authenticate(token)
        return Caller(holder.actor, holder)

    def _authenticate(self, token: str) -> TokenHolder:
        if token.startswith(operator_keys.PREFIX):
            return operator_keys.authenticate(self._db, token)
        if self._tokens is not None and "." in token:
            return self._tokens.authenticate(token)
        return api_keys.authenticate(self._db, token)


def _token_reader(settings: Settings, db: Database) -> TokenReader | None:
    if not settings.access.takes_tokens:
        return None
    from kb_pipeline.operations.json_web_tokens import TokenReader

    return TokenReader(settings.access, db, settings.proxy)
