"""The models that candidates are merged from, mapped into memory once per worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import safe_open
from torch import Tensor

from search.layout import Block, Kind, Layout, Partition
from search.problems import Invalid, Problem
from search.spec import BASE
from workers.checkpoints.adapter import WEIGHTS
from workers.checkpoints.folder import Folder, read_folder, read_parent, token_tables
from workers.checkpoints.headers import Malformed
from workers.checkpoints.vocabulary import Alignment, alignment
from workers.merging.memo import Memo
from workers.messages import Zoo
from workers.planning.memory import Memory, memo_budget
from workers.planning.placement import placement


class Parents:
    """Base and parents of one search, by name and tensor; ``base`` is a name like any other.

    On the CPU tensors are views of the files, which the page cache keeps resident and shares
    between workers. On an accelerator they stay where there is room (see `placement`): there, in
    pinned memory of the host, or in their files; from the latter two they are copied whenever they
    are needed, one tensor at a time.

    A parent may be a LoRA adapter of the base. What it adapts is computed whenever it is asked for
    (2 * rank operations an element) and not kept, for it would take as much room as the base. It
    comes in float32: rounded to a base in bfloat16, most of a small change would be lost.

    Embeddings and heads of a parent have the base's rows: aligned by token, without those that only
    the parent has, and with the base's own where it has none.

    Args:
        zoo: the folders.
        device: where tensors are wanted.

    Raises:
        Invalid: a folder cannot be read, or its tokenizer is of another family; headers are checked
            before data is mapped.
    """

    def __init__(self, zoo: Zoo, device: str | torch.device = "cpu") -> None:
        self.zoo = zoo
        self.device = torch.device(device)
        base = read_folder(BASE, Path(zoo.base))
        folders = {BASE: base}
        folders |= {name: read_parent(name, Path(path), base) for name, path in zoo.parents}
        problems = [problem for folder in folders.values() for problem in folder.problems]
        self._alignments: dict[str, Alignment] = {}
        for name, folder in folders.items():
            try:
                self._alignments[name] = alignment(base.path, folder.path)
                problems += [
                    Problem(field=name, message=f"its tokenizer {text}")
                    for text in self._alignments[name].problems
                ]
            except Malformed as error:
                problems.append(Problem(field=name, message=str(error)))
        if problems:
            raise Invalid(problems)
        self.folders = folders
        self.layout: Layout = base.layout
        self._token_tables = token_tables(self.layout)
        self.kinds: dict[str, Kind] = {t.name: self.layout.kind(t) for t in self.layout.tensors}
        self.dtype: torch.dtype = getattr(torch, zoo.dtype)
        memory = _memory(self.device)
        size = sum(folder.size_bytes for folder in folders.values())
        self.place = placement(size, base.size_bytes, memory)
        self.memo = Memo(memo_budget(memory))
        self._blocks: tuple[Partition, tuple[Block, ...]] | None = None
        self._files: dict[Path, Any] = {}
        self._tensors: dict[tuple[str, str, str], Tensor] = {}
        self._open = ExitStack()

    @property
    def base(self) -> Folder:
        """The base's folder."""
        return self.folders[BASE]

    def tensor(self, model: str, name: str) -> Tensor:
        """A tensor of a model in the base's shape, read-only by agreement. KeyError without one."""
        folder = self.folders[model]
        adapter = folder.adapter
        if adapter is None:
            return self._aligned(model, name, name)
        whole = adapter.whole.get(name)
        update = adapter.updates.get(name)
        if update is None:
            return self.tensor(BASE, name) if whole is None else self._aligned(model, name, whole)
        before = self.tensor(BASE, name) if whole is None else self.stored(model, whole)
        after = update.applied(
            before, self.stored(model, update.down), self.stored(model, update.up)
        )
        return self._in_rows_of_base(model, name, after)

    def _aligned(self, model: str, name: str, stored: str) -> Tensor:
        """A tensor that is stored, in the base's rows; kept where these had to be gathered."""
        key = (model, name, "aligned")
        if name not in self._token_tables or model == BASE:
            return self.stored(model, stored)
        if key not in self._tensors:
            self._tensors[key] = self._in_rows_of_base(model, name, self.stored(model, stored))
        return self._tensors[key]

    def _in_rows_of_base(self, model: str, name: str, tensor: Tensor) -> Tensor:
        """A parent's tensor with a row for every row of the base's; the same where it has them."""
        if name not in self._token_tables:
            return tensor
        ours = self.tensor(BASE, name)
        rows = self._alignments[model].rows(len(ours), len(tensor))
        if rows is None:
            return tensor[: len(ours)]
        index = torch.from_numpy(rows).to(tensor.device)
        theirs = index >= 0
        aligned = ours.to(torch.promote_types(ours.dtype, tensor.dtype), copy=True)
        aligned[theirs] = tensor[index[theirs]].to(aligned.dtype)
        return aligned

    def stored(self, model: str, name: str) -> Tensor:
        """A tensor as the files of the model have it, under the name that it has there."""
        key = (model, name, "stored")
        if key in self._tensors:
            return self._tensors[key].to(self.device, non_blocking=True)
        folder = self.folders[model]
        file = WEIGHTS if folder.adapter is not None else folder.files[name]
        tensor: Tensor = self._file(folder.path / file).get_tensor(name)
        there = tensor.to(self.device)
        if self.device.type == "cpu" or self.place == "gpu":
            self._tensors[key] = there
        elif self.place == "pinned":
            self._tensors[key] = tensor.pin_memory()
        return there

    def rearranges(self, model: str, name: str) -> bool:
        """Whether rows of a model's tensor are not where the base has them."""
        ours, theirs = (self.folders[m].tensors[name].shape for m in (BASE, model))
        if name not in self._token_tables:
            return False
        return ours != theirs or self._alignments[model].rows(ours[0], theirs[0]) is not None

    def blocks(self, partition: Partition) -> tuple[Block, ...]:
        """The layout's blocks; most candidates of a search have the same."""
        if self._blocks is None or self._blocks[0] != partition:
            self._blocks = (partition, self.layout.blocks(partition))
        return self._blocks[1]

    def unmerged(self) -> Iterator[tuple[str, Tensor]]:
        """Buffers and whole numbers of the base: part of a checkpoint, but never merged."""
        merged = {tensor.name for tensor in self.layout.tensors}
        for name in self.base.tensors:
            if name not in merged and name not in self.layout.aliases:
                yield name, self.tensor(BASE, name)

    def close(self) -> None:
        """Let go of the files."""
        self._tensors.clear()
        self._files.clear()
        self._open.close()

    def _file(self, path: Path) -> Any:
        if path not in self._files:
            self._files[path] = self._open.enter_context(safe_open(path, framework="pt"))
        return self._files[path]


def _memory(device: torch.device) -> Memory:
    """What is free where a worker computes."""
    host = psutil.virtual_memory().available
    return Memory(host, torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0)
