"""How a process writes its log on standard error: text for people, or one JSON object a line for what collects logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

from kb_pipeline.request_context import current_request

PACKAGE = "kb_pipeline"


class JsonLines(logging.Formatter):
    """Formats each log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return an object of time, level, logger and message, and of the request that is being answered.

        What a call of the logger adds as `extra={"fields": {...}}` stands beside them.
        """
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = current_request.get()
        if request is not None:
            fields |= request.as_fields()
        fields |= getattr(record, "fields", {})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure_logging(log_format: Literal["text", "json"], *others: str) -> None:
    """Send the log of this package, and of other libraries by name, to standard error; may be called again."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter("%(levelname)s %(message)s"))
    for name in (PACKAGE, *others):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger(PACKAGE).setLevel(logging.INFO)
