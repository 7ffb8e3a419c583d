"""Keeps the catalog of KBs, their versions and what was erased from them."""
