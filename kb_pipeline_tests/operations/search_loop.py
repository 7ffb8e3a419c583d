"""Searches a home from a process of its own: `python -m ... HOME` until stdin ends, or `... HOME VERSION QUERY...`."""

from __future__ import annotations

import json
import re
import select
import sys
from pathlib import Path

from kb_pipeline_tests.operations.home import Home

_PAUSE_S = 0.02
"""The writer beside it wants a processor too."""


def main() -> None:
    home = Home(Path(sys.argv[1]), Path(sys.argv[1]) / "models")
    if sys.argv[2:]:
        print(home.answers(int(sys.argv[2]), *sys.argv[3:]))
        return
    print("searching", flush=True)
    answers = []
    while not select.select([sys.stdin], [], [], _PAUSE_S)[0]:
        version, hits = home.ask("plums and pears", None, "hybrid", 20)
        markers = {marker for hit in hits for marker in re.findall(r"Marker \d+\.", hit["text"])}
        answers.append({"version": version, "markers": sorted(markers)})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
