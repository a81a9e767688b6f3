"""DELLA without a vote: task arithmetic on task vectors sampled by magnitude."""

from workers.merging.della import declaration, della
from workers.merging.merge_method import merge_method

merge_method(
    declaration(
        "della_linear",
        "Drop changes by rank and chance, rescale the rest, add them to the base.",
        vote=False,
    )
)(della(vote=False))
