"""Sends requests and reads responses within limits, to addresses that are allowed."""
