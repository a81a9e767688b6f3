"""Checkpoint folders: look before reading, and write so that nothing is ever half there."""

from workers.preflight import Preflight as Preflight
from workers.preflight import preflight as preflight
from workers.writing import write_checkpoint as write_checkpoint
