"""Tests of kb_pipeline.fetch.web.politeness."""
