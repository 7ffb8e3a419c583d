"""Holds one module for each thing that can be done, joining control plane and stages."""
