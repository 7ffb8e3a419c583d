"""Which request of a client is being answered, for log lines and for what is started because of it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class RequestContext:
    """One request; what is learnt of it while it is answered is filled in."""

    request_id: str
    trace_id: str
    """Of W3C trace context, 32 hexadecimal digits: the client's, or a new one."""
    traceparent: str
    """The header that what is started for the request carries on."""
    tenant: str | None = None
    kb: str | None = None
    """`tenant.kb`."""

    def as_fields(self) -> dict[str, str]:
        """Return what a log line says of it."""
        known = {"request_id": self.request_id, "trace_id": self.trace_id, "tenant": self.tenant, "kb": self.kb}
        return {name: value for name, value in known.items() if value is not None}


current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)
"""None outside of requests; threads that answer one see it too."""
