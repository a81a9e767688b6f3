"""What whoever comes from another program may write."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from search.problems import Invalid
from tests.workers.whole_models import plus, state
from workers import merge_state_dicts

BASE = state(0)
PARENTS = [plus(BASE, state(n + 1, scale=0.1)) for n in range(3)]


@pytest.mark.parametrize(
    ("theirs", "given", "ours", "wanted"),
    [
        ("ties", {"rescale": True}, "ties", {"rescale": "l1"}),
        ("ties", {"rescale": False, "int8_mask": True}, "ties", {"rescale": "none"}),
        ("della", {"rescale": True}, "della", {"rescale": "l1"}),
        ("della", {"window_size": 0.2}, "della", {"epsilon": 0.1}),
        (
            "ties",
            {"per_model.weight": [0.1, 0.2, 0.3], "per_model.density": 0.4},
            "ties",
            {"weight": [0.1, 0.2, 0.3], "density": 0.4},
        ),
        (
            "ties_whole_vector",
            {"top_k_percent": 20, "merge_func": "sum", "scaling": 0.4},
            "ties",
            {"density": 0.2, "merge_func": "sum", "lambda": 0.4, "scope": "model"},
        ),
        ("tsv_merge", {"alpha": [1.0, 0.5, 0.8]}, "tsv_merge", {"weight": [1.0, 0.5, 0.8]}),
        ("pcb", {"lambdas": [1.0, 0.8, 1.3]}, "pcb", {"lambda": [1.0, 0.8, 1.3]}),
        ("ramplus_tl", {"epsilon": 0.03}, "ramplus", {"epsilon": 0.03, "scope": "tensor"}),
        ("sce_official", {"select_topk": 0.3}, "sce", {"select_topk": 0.3, "compat": "paper"}),
        (
            "twin_merging",
            {"shared": "task_arithmetic scaling 0.5", "density": 0.2},
            "twin",
            {"scaling": 0.5, "density": 0.2},
        ),
    ],
)
def test_another_spelling_is_the_same_merge(
    theirs: str, given: dict[str, Any], ours: str, wanted: dict[str, Any]
) -> None:
    one = merge_state_dicts(theirs, BASE, PARENTS, given)
    other = merge_state_dicts(ours, BASE, PARENTS, wanted)
    assert all(torch.equal(one[name], other[name]) for name in BASE)


def test_a_shared_expert_that_we_do_not_make_is_refused() -> None:
    with pytest.raises(Invalid, match="shared"):
        merge_state_dicts("twin_merging", BASE, PARENTS, {"shared": "ties"})
