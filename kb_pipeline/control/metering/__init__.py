"""Counts what tenants use and holds them to their plans' limits."""
