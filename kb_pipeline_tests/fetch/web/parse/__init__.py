"""Tests of kb_pipeline.fetch.web.parse."""
