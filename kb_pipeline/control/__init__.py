"""Knows which KBs exist, who may write them, what is live, and how every refresh went (SQLAlchemy)."""
