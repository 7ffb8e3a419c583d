"""Clients of other makers, each line of major versions in its own environment, against a real `kb serve`."""
