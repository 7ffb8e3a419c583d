"""Knows tenants and KBs, what each may do and has used, who writes, what is live, how refreshes went (SQLAlchemy)."""
