"""Tests of kb_pipeline, in the same tree."""
