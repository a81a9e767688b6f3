"""Checkpoint folders: read without trusting them, mapped into memory, written and described."""
