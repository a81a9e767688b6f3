"""Told before anything runs: whether models can be merged, and what a search takes."""
