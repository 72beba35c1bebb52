"""Synthetic data that the project makes itself."""
