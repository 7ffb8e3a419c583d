"""`Idempotency-Key`: a request that is sent again with the key of the first one is answered as that was, once done.

By the IETF draft httpapi-idempotency-key-header. What does the work takes the key along and keeps it in the
transaction of the work; see control.coordination.idempotency.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from kb_pipeline.errors import UsageError
from kb_pipeline.model import RequestOnce
from kb_pipeline.service.callers import HomeOfCaller

_KEY = re.compile(r'"?([\x21\x23-\x5b\x5d-\x7e]{1,255})"?')
REPLAYED = "Idempotency-Replayed"


async def _once(
    request: Request,
    home: HomeOfCaller,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="A name for this request, such as a UUID: sent again with it within 24 hours, it is answered "
            "as the first one was, and nothing is done twice. Another request with it is refused."
        ),
    ] = None,
) -> RequestOnce | None:
    if idempotency_key is None:
        return None
    match = _KEY.fullmatch(idempotency_key)
    if match is None:
        raise UsageError("Idempotency-Key: allowed are 1 to 255 printable characters without spaces, such as a UUID")
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.url.path.encode(), request.url.query.encode(), await request.body()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return RequestOnce(home.caller.actor, match[1], digest.hexdigest())


Once = Annotated[RequestOnce | None, Depends(_once)]
"""What tells this request from others, if its client may send it again."""


def say_replayed(response: Response, *, is_replayed: bool) -> None:
    """Note in an answer that it was given before."""
    if is_replayed:
        response.headers[REPLAYED] = "true"
