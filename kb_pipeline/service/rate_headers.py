"""Says in headers what is left of a caller's rates: `RateLimit-Policy` and `RateLimit`.

The fields of draft-ietf-httpapi-ratelimit-headers-10, which are lists of structured fields (RFC 9651): of each policy
its quota `q` and window `w` in seconds, and of what is left the remaining requests `r` and the seconds `t` until all
are there again.
"""

from __future__ import annotations

from collections.abc import Sequence

from kb_pipeline.allowance import Allowance


def rate_headers(allowances: Sequence[Allowance]) -> dict[str, str]:
    """Return the headers; none for a caller without a rate."""
    if not allowances:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{each.name}";q={each.quota};w={each.window_s}' for each in allowances),
        "RateLimit": ", ".join(f'"{each.name}";r={each.remaining};t={each.full_after_s}' for each in allowances),
    }
