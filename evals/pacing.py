"""Which forward passes are fastest here: found out by making a few of each kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.batching import Batching, Pacing, fastest
from evals.engine import PASS_TOKENS, Engine, Plan
from evals.fingerprint import device_name
from evals.harness import Loaded
from evals.requests import Divergence, Request

# Seconds since some moment.
Clock = Callable[[], float]

# Tokens of a pass that are tried, in parts of the usual number.
_SHARES = (0.25, 0.5, 2.0)
# Whatever is answered in less has nothing to gain, and noise decides.
_WORTH_S = 0.25
# Examples are taken until their answers take so long.
_ENOUGH_S = 0.1
_ROUNDS = 3
# No new run is begun after so many seconds.
_LONGEST_S = 3.0


def pace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    loaded: Loaded,
    device: str,
    *,
    threads: int,
    cores: int,
) -> Pacing:
    """Answer a little of a suite in different ways, in turns. Leaves torch with as many threads.

    Threads are chosen at the usual number of tokens, by the clock: how many are of use depends on
    what else runs. Then tokens with so many threads, on a CPU by its own time, of which other
    programs take nothing: the same search on the same machine finds the same.

    Args:
        model: with any weights that give finite outputs; the time does not depend on them.
        tokenizer: of the model.
        loaded: what the search asks.
        device: where the model lives, as torch spells it.
        threads: the usual number.
        cores: as many threads are tried at most.

    Raises:
        Unscorable: the model's outputs are not finite.
    """
    usual = Batching(PASS_TOKENS[torch.device(device).type], threads)
    on_cpu = torch.device(device).type == "cpu"
    own = time.thread_time if on_cpu else time.perf_counter
    stopwatch = _Stopwatch(model, tokenizer, device, usual)
    if not stopwatch.takes(loaded, own):
        return Pacing(usual, device_name(device), {})
    best, seconds = usual, {}
    if on_cpu and cores > threads:
        ways = [Batching(usual.tokens, count) for count in _doubling(threads, cores)]
        seconds = stopwatch.seconds(ways, time.perf_counter)
        best = fastest(seconds, usual)
    ways = [best, *(Batching(int(share * best.tokens), best.threads) for share in _SHARES)]
    sizes = stopwatch.seconds(ways, own)
    best = fastest(sizes, best)
    torch.set_num_threads(best.threads)
    return Pacing(best, device_name(device), seconds | sizes)


class _Stopwatch:
    """Times ways to answer the same few requests."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        device: str,
        usual: Batching,
    ) -> None:
        self._model, self._tokenizer, self._device = model, tokenizer, device
        self._usual = usual
        self._ways: dict[Batching, tuple[Engine, Plan]] = {}
        self._begun = time.perf_counter()

    def takes(self, loaded: Loaded, clock: Clock) -> bool:
        """Whether all that is asked takes long enough to be measured; some of it is from now on."""
        longest, count = max(map(len, loaded.tasks)), 1
        while True:
            self._requests = _of_one_model(loaded.first(count))
            self._ways.clear()
            taken = min(self._time(self._usual, clock) for _ in range(2))
            if count >= longest or taken >= _ENOUGH_S:
                break
            count *= 2
        return taken * len(_of_one_model(loaded)) >= _WORTH_S * len(self._requests)

    def seconds(self, ways: Sequence[Batching], clock: Clock) -> dict[Batching, float]:
        """The least that each way takes: in turn, some rounds, as long as there is time."""
        least: dict[Batching, float] = {}
        for _ in range(_ROUNDS):
            for way in ways:
                if way in least and time.perf_counter() - self._begun > _LONGEST_S:
                    continue
                taken = self._time(way, clock)
                least[way] = min(taken, least.get(way, taken))
        return least

    def _time(self, way: Batching, clock: Clock) -> float:
        torch.set_num_threads(way.threads)
        if way not in self._ways:
            engine = Engine(self._model, self._tokenizer, self._device, token_limit=way.tokens)
            self._ways[way] = engine, engine.prepare(self._requests)
        engine, plan = self._ways[way]
        start = clock()
        engine.run(plan)
        return clock() - start


def _of_one_model(loaded: Loaded) -> list[Request]:
    """What is asked without a reference, which nobody has learned yet, and which costs little."""
    return [request for request in loaded.requests if not isinstance(request, Divergence)]


def _doubling(start: int, most: int) -> list[int]:
    """The start and the most, and the powers of two between them."""
    powers = (2**power for power in range(most.bit_length()))
    return sorted({start, most, *(count for count in powers if start < count < most)})
