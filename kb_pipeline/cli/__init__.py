"""The command line `kb`: reads arguments, calls, prints; exit status 0 done, 1 failed, 2 misuse, 3 held, 4 snoozed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors of ours become one message and an exit status."""
    from kb_pipeline.cli.app import app
    from kb_pipeline.errors import KbError, UsageError

    try:
        app()
    except UsageError as error:
        sys.exit(_complain(error, 2))
    except KbError as error:
        sys.exit(_complain(error, 1))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing to say to it
        sys.exit(1)


def _complain(error: Exception, status: int) -> int:
    sys.stderr.write(f"kb: {error}\n")
    return status
