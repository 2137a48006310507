"""Offline jobs: training, evaluation, verification, import, export and backup."""
