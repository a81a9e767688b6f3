"""mergekit's two formats: a merge that is written out, and the search of mergekit-evolve."""

from workers.mergekit.configuration import Configuration, parse_configuration, place_of
from workers.mergekit.evolve import Converted, convert
from workers.mergekit.exporting import mergekit_yaml
from workers.mergekit.importing import recipe_of
from workers.mergekit.passthrough import Stacking

__all__ = [
    "Configuration",
    "Converted",
    "Stacking",
    "convert",
    "mergekit_yaml",
    "parse_configuration",
    "place_of",
    "recipe_of",
]
