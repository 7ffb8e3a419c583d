"""Finishes a draft once, to be killed: `python -m kb_pipeline_tests.operations.finalize_once TENANT DRAFT`."""

from __future__ import annotations

import json
import sys

import kb_pipeline
from kb_pipeline.model import RequestOnce


def main() -> None:
    tenant, draft = sys.argv[1:]
    with kb_pipeline.open() as home:
        done = home.drafts.finalize(draft, tenant, once=RequestOnce("tester", "key", draft))
    print(json.dumps({"job_id": done.job_id}))


if __name__ == "__main__":
    main()
