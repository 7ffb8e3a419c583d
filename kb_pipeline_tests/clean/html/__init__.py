"""Tests of kb_pipeline.clean.html."""
