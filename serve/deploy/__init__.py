"""Deployment files: Kubernetes manifests and the container image."""
