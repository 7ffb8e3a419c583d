"""Says what went wrong: our own errors in their words, all others without what they say, which the log has."""

from __future__ import annotations

import logging

from kb_pipeline.errors import KbError, is_database_error

logger = logging.getLogger(__name__)

_DATABASE_AWAY = "the control plane cannot be used; nothing was changed, try again later"
_FAULT = "this is a fault of the service; its log says more"


def explain(error: Exception, during: str) -> str:
    """Return what a caller is told of an error, and log what it is not told.

    Args:
        error: what was raised.
        during: the request, for the log.
    """
    if isinstance(error, KbError):
        return str(error)
    if is_database_error(error):
        logger.error("%s: %s", during, str(error).partition("\n")[0])
        return _DATABASE_AWAY
    logger.error("%s: a fault", during, exc_info=error)
    return _FAULT
