"""`python -m kb_pipeline.service` prints the description of the API: docs/openapi.json is made by it."""

import json
import sys

from kb_pipeline.service.app import routed

json.dump(routed().openapi(), sys.stdout, indent=1, ensure_ascii=False)
sys.stdout.write("\n")
