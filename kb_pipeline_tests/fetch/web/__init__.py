"""Tests of kb_pipeline.fetch.web, most of them against a real site on loopback."""
