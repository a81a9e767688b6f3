"""Merge methods, one to a file: adding a file adds a method."""
