"""Readings laid out as trees are the readings still, whatever they share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evals.engine.packing import Cost, packed
from evals.engine.trees import readings, shared, tree

PLENTY = 10**6


def cost(width: int) -> Cost:
    return Cost(width, tokens=1024, positions=PLENTY)


# Few tokens, so that texts begin alike.
tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
# What stands before everything that is asked: nothing, or the same examples.
pairs = st.builds(
    lambda before, drawn: [(before + context, answer) for context, answer in drawn],
    st.sampled_from([(), (0,) * 90, tuple(range(40)) * 5]),
    st.lists(st.tuples(tokens, tokens), min_size=1, max_size=40),
)


def path(laid: object, node: int) -> list[int]:
    """Nodes that a node sees, by the rule that its mask follows."""
    return [other for other in range(node + 1) if node < laid.exits[other]]  # type: ignore[attr-defined]


@given(pairs, st.integers(4, 300))
def test_every_node_sees_its_reading_up_to_itself(
    asked: list[tuple[tuple[int, ...], tuple[int, ...]]], length: int
) -> None:
    found = readings(asked, length)
    start = min(
        shared(found[0].tokens, found[-1].tokens), *(reading.unscored for reading in found), 10**9
    )
    for begin in {0, max(start, 0)}:
        laid = tree(found, begin)
        for reading, nodes in zip(found, laid.ends, strict=True):
            seen = path(laid, nodes[-1])
            assert tuple(laid.tokens[node] for node in seen) == reading.tokens[begin:]
            assert [laid.places[node] for node in seen] == list(range(begin, len(reading.tokens)))
            assert list(nodes) == seen[-reading.depth :]


@given(pairs, st.integers(4, 300))
def test_a_reading_is_what_the_model_reads_before_the_last_token(
    asked: list[tuple[tuple[int, ...], tuple[int, ...]]], length: int
) -> None:
    found = readings(asked, length)
    assert len({reading.tokens for reading in found}) == len(found)
    scored = {unit: (r.tokens, answer) for r in found for unit, answer in r.scored}
    assert scored == {
        unit: ((context + answer)[:-1][-length:], answer)
        for unit, (context, answer) in enumerate(asked)
    }


@given(pairs, st.sampled_from([4, 256, 4096]))
def test_packing_loses_no_reading_and_puts_each_behind_what_it_begins_with(
    asked: list[tuple[tuple[int, ...], tuple[int, ...]]], width: int
) -> None:
    found = readings(asked, 1000)
    groups = packed(found, cost(width))
    placed = [reading.tokens for g in groups for row in g.rows for reading in row.readings]
    assert sorted(placed) == [reading.tokens for reading in found]
    for group in groups:
        for row in group.rows:
            assert row.width == len(tree(row.readings, len(group.stem)).tokens)
            for reading in row.readings:
                assert reading.tokens[: len(group.stem)] == group.stem
                assert reading.unscored >= len(group.stem)


@given(pairs)
def test_packing_reads_no_more_tokens_than_one_row_for_each_reading(
    asked: list[tuple[tuple[int, ...], tuple[int, ...]]],
) -> None:
    found = readings(asked, 1000)
    groups = packed(found, cost(256))
    read = sum(len(group.stem) + sum(row.width for row in group.rows) for group in groups)
    assert read <= sum(len(reading.tokens) for reading in found)


def test_examples_shown_before_every_question_are_a_stem() -> None:
    shots = tuple(range(100))
    asked = [((*shots, *[200 + i] * 10), (c, 7)) for i in range(50) for c in (1, 2, 3)]
    (group,) = packed(readings(asked, 1000), cost(256))
    assert group.stem == shots
    assert sum(row.width for row in group.rows) <= 50 * 13


def test_a_passage_of_a_few_questions_is_read_in_their_row_and_one_of_many_is_a_stem() -> None:
    def asked(questions: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        passage = tuple(range(300))
        return [((*passage, *[500 + i] * 20), (c, 7)) for i in range(questions) for c in (1, 2)]

    (group,) = packed(readings(asked(2), 1000), cost(2048))
    assert (group.stem, len(group.rows)) == ((), 1)
    (group,) = packed(readings(asked(400), 1000), cost(2048))
    assert len(group.stem) == 300


def test_stems_continue_each_other() -> None:
    task = tuple(range(200))
    asked = [
        ((*task, *[subject] * 100, *[500 + i] * 20), (c, 7))
        for subject in (201, 202, 203)
        for i in range(30)
        for c in (1, 2)
    ]
    stems = [group.stem for group in packed(readings(asked, 1000), cost(256))]
    assert [len(stem) for stem in stems] == [200, 300, 300, 300]


def test_no_row_outgrows_a_pass() -> None:
    asked = [(tuple(range(40)), (i, 7)) for i in range(400)]
    limits = Cost(4096, tokens=128, positions=100)
    for group in packed(readings(asked, 1000), limits):
        for row in group.rows:
            assert row.width <= 128
            assert sum(reading.depth for reading in row.readings) <= 100


def test_a_chain_of_texts_that_each_continue_the_last_ends() -> None:
    text = tuple(range(3000))
    asked = [(text[:end], (text[end], 1)) for end in range(150, 3000, 150)]
    groups = packed(readings(asked, 4000), cost(16))
    assert sum(len(row.readings) for group in groups for row in group.rows) == len(asked)
