"""Runs one refresh without Dagster, to be killed: `python -m kb_pipeline_tests.crash.refresh_once KB RUN_ID [JOB]`."""

from __future__ import annotations

import json
import sys

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.refreshes import Launch, get_refresh
from kb_pipeline.model import KbKey
from kb_pipeline.operations.refresh import open_refresh_run
from kb_pipeline.settings import load_settings


def main() -> None:
    settings, key, run_id = load_settings(), KbKey.parse(sys.argv[1]), sys.argv[2]
    db = Database(settings.database_url)
    launch = Launch(sys.argv[3] if len(sys.argv) > 3 else None)
    with open_refresh_run(settings, db, key, run_id, launch=launch) as kb:
        for stage in (kb.fetch, kb.clean, kb.chunk, kb.embed):
            stage()
        if kb.build_candidate().status == "candidate":
            kb.publish()
    row = get_refresh(db, key, run_id)
    if row is not None:
        print(json.dumps({"status": row.status, "version": row.version, "stages": row.stages, "message": row.message}))


if __name__ == "__main__":
    main()
