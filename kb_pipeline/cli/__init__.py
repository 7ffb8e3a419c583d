"""The command line `kb`: calls and prints; exit status 0 done, 1 failed, 2 misuse, 3 held, 4 snoozed, 130 cancelled."""

from __future__ import annotations

import os
import sys

_INTERRUPTED = 130
"""As shells say of what Ctrl-C ended."""


def main() -> None:
    """Run the command line; errors of ours become one message and an exit status."""
    try:
        _run()
    except KeyboardInterrupt:  # Ctrl-C while modules are imported
        sys.exit(_complain("cancelled", _INTERRUPTED))


def _run() -> None:
    from kb_pipeline.cli.app import app
    from kb_pipeline.cli.completion import prepare
    from kb_pipeline.errors import KbError, UsageError, is_database_error

    prepare()
    try:
        try:
            app(prog_name="kb")
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        if end.code == _INTERRUPTED and isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            _complain("cancelled", _INTERRUPTED)
        raise
    except UsageError as error:
        sys.exit(_complain(error, 2))
    except KbError as error:
        sys.exit(_complain(error, 1))
    except BrokenPipeError:  # the reader of our output has gone: nothing to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full or read-only disk, say: the environment's fault, and no reason for a trace
        sys.exit(_complain(error, 1))
    except Exception as error:
        if not is_database_error(error):
            raise
        sys.exit(_complain(f"the control plane cannot be used: {str(error).splitlines()[0]}", 1))


def _complain(error: object, status: int) -> int:
    sys.stderr.write(f"kb: {error}\n")
    return status
