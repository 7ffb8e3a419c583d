"""Sends requests to allowed addresses and reads responses within limits."""
