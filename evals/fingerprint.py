"""What besides weights and examples a score can depend on: the engine that computed it."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

# Of these, and of nothing else that is installed, a score is made.
_LIBRARIES = ("lm_eval", "nichemerge", "numba", "numpy", "tokenizers", "torch", "transformers")

# Words by name, as JSON keeps it.
Fingerprint = Mapping[str, str]


def fingerprint(device: str, plan: str) -> dict[str, str]:
    """Equal for two engines that give the same scores to the bit, as far as can be told.

    Args:
        device: of the model, as torch spells it.
        plan: dtype, threads and batches of the engine, in its own words.
    """
    return {
        **_libraries(),
        "device": device_name(device),
        "plan": plan,
    }


def digest(engine: Fingerprint) -> str:
    """sha256 of a fingerprint, in hex."""
    text = json.dumps(dict(engine), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def device_name(device: str) -> str:
    """The model of the processor: another one adds up in another order."""
    import torch  # not above: whoever only reads fingerprints starts without it

    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"


@functools.cache
def _libraries() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(errors="replace").splitlines() if facts.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
