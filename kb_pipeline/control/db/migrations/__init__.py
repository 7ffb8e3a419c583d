"""Brings a control plane's schema to what this release's code expects."""
