"""`python -m kb_pipeline` is `kb`."""

from kb_pipeline.cli import main

main()
