"""Keeps stored data small, whole and free of what was erased."""
