"""Keeps tenants and what belongs to one: plan, API keys, secrets, audit log."""
