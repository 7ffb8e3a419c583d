"""Holds feature flags: which there are, what is set for whom, and how code reads them."""
