"""Forward passes: log-likelihoods of what a batch asks for, and what a stem leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.engine.batches import Batch
from evals.engine.encoding import Tokens
from evals.engine.stems import Stems, behind, recorded, recorder

Forward = Callable[..., Any]


class Scorer:
    """Puts batches through a model.

    Args:
        model: whose output layer is found, and which is called unless ``forward`` is given.
        dtype: of the model's hidden states.
        forward: takes what the model takes.
    """

    def __init__(
        self, model: PreTrainedModel, *, dtype: torch.dtype, forward: Forward | None = None
    ) -> None:
        self._dtype = dtype
        self._forward: Forward = model if forward is None else forward
        find_head: Callable[[], torch.nn.Module | None] = model.get_output_embeddings
        self._head = find_head()

    def score(
        self, batch: Batch, stems: Stems, references: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """(3, units): log-likelihoods, tokens that greedy decoding misses, divergences.

        Softmax and sums are taken in float32, whatever the dtype of the logits. lm-eval takes them
        in that dtype: in bfloat16 its log-likelihoods are rounded to three digits, ours are not.
        Which token is the likeliest is the same.

        Args:
            batch: what is read.
            stems: that it stands behind.
            references: (tokens, vocabulary) log-probabilities of another model, by place among the
                units of the batch; the divergence of the others is 0.
        """
        logits = self._logits(batch, stems).float()
        normalizers = torch.logsumexp(logits, dim=-1)
        best = logits.argmax(dim=-1)
        found = logits[batch.position, batch.token] - normalizers[batch.position]
        # Every token at a place of its own, and not added up at once: atomic sums never repeat.
        table = torch.zeros(3, *batch.table, device=logits.device)
        table[0, batch.owner, batch.place] = found
        table[1, batch.owner, batch.place] = (best[batch.position] != batch.token).float()
        for owner, theirs in (references or {}).items():
            ours = torch.log_softmax(logits[_positions(batch, owner)], dim=-1)
            table[2, owner, : len(ours)] = _divergence(theirs, ours)
        return table.sum(dim=-1)

    def log_probabilities(
        self, batch: Batch, stems: Stems, owners: Iterable[int]
    ) -> dict[int, Tensor]:
        """(tokens, vocabulary) in float32 of some units of a batch, by place among its units."""
        logits = self._logits(batch, stems).float()
        return {
            owner: torch.log_softmax(logits[_positions(batch, owner)], dim=-1) for owner in owners
        }

    def read(self, stem: Tokens, stems: Stems, device: torch.device) -> None:
        """Compute keys and values of a stem, unless they are there, and remember them."""
        if not stem or stem in stems:
            return
        known = stems.longest(stem)
        start = len(known)
        cache = recorder(stems[known] if known else ())
        inputs = torch.tensor([stem[start:]], device=device)
        places = torch.arange(start, len(stem), device=device)[None]
        first = torch.zeros(1, dtype=torch.long, device=device)
        with self._projecting(first, first):
            self._forward(
                inputs,
                attention_mask=_mask(torch.full_like(inputs, inputs.shape[1]), start, self._dtype),
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
            )
        stems.add(stem, recorded(cache))

    def _logits(self, batch: Batch, stems: Stems) -> Tensor:
        """(positions, vocabulary), of the scored positions only."""
        arguments: dict[str, Any] = {"use_cache": False}
        if batch.exits is not None:
            arguments["attention_mask"] = _mask(batch.exits, len(batch.stem), self._dtype)
            arguments["position_ids"] = batch.places
        if batch.stem:
            arguments |= {"past_key_values": behind(stems[batch.stem]), "use_cache": True}
        with self._projecting(batch.row, batch.column):
            logits: Tensor = self._forward(batch.inputs, **arguments).logits
        return logits[batch.row, batch.column] if self._head is None else logits[0]

    @contextmanager
    def _projecting(self, row: Tensor, column: Tensor) -> Iterator[None]:
        """Let the output layer see these positions alone, as one sequence.

        What the model does with its logits afterwards stays the model's.
        """
        if self._head is None:
            yield
            return

        def select(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (arguments[0][row, column][None], *arguments[1:])

        handle = self._head.register_forward_pre_hook(select)
        try:
            yield
        finally:
            handle.remove()


def _positions(batch: Batch, owner: int) -> Tensor:
    """(tokens,) of a unit, where they are projected."""
    return batch.position[batch.owner == owner]


def _divergence(theirs: Tensor, ours: Tensor) -> Tensor:
    """(tokens,) KL(theirs || ours) of (tokens, vocabulary) log-probabilities."""
    shares = theirs.exp()
    terms = torch.where(shares > 0, shares * (theirs - ours), 0.0)  # 0 log 0 is 0
    return terms.sum(dim=-1).clamp_(min=0)  # what is less is rounding


def _mask(exits: Tensor, before: int, dtype: torch.dtype) -> Tensor:
    """(rows, 1, length, before + length), added to attention: nodes see themselves and ancestors.

    Args:
        exits: (rows, length) of `Tree`.
        before: how many tokens of a stem are seen by every node.
        dtype: of the mask.
    """
    rows, length = exits.shape
    node = torch.arange(length, device=exits.device)
    hidden = (node[:, None] < node[None, :]) | (node[None, :, None] >= exits[:, None, :])
    mask = torch.zeros(rows, 1, length, before + length, dtype=dtype, device=exits.device)
    mask[:, 0, :, before:].masked_fill_(hidden, torch.finfo(dtype).min)
    return mask
