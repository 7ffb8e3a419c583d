"""Tests of the production shape: launchers, image, Compose file, Kubernetes manifests."""
