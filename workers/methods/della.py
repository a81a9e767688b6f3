"""DELLA: sampling by magnitude, then the vote of TIES."""

from workers.merging.della import declaration, della
from workers.merging.merge_method import merge_method

merge_method(
    declaration(
        "della",
        "Drop changes by rank and chance, elect a sign per entry, average what agrees.",
        vote=True,
    )
)(della(vote=True))
