"""The models that candidates are merged from, mapped into memory once per worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from search.layout import Block, Kind, Layout, Partition
from search.problems import Invalid
from search.spec import BASE
from workers.folder import Folder, read_folder
from workers.memo import Memo
from workers.messages import Zoo


class Parents:
    """Base and parents of one search, by name and tensor; ``base`` is a name like any other.

    On the CPU tensors are views of the files, which the page cache keeps resident and shares
    between workers; on another device each is copied there when it is first needed, and stays.

    Args:
        zoo: the folders.
        device: where tensors are wanted.

    Raises:
        Invalid: a folder cannot be read; its headers are checked before its data is mapped.
    """

    def __init__(self, zoo: Zoo, device: str | torch.device = "cpu") -> None:
        self.zoo = zoo
        self.device = torch.device(device)
        folders = {
            name: read_folder(name, Path(path)) for name, path in ((BASE, zoo.base), *zoo.parents)
        }
        problems = [problem for folder in folders.values() for problem in folder.problems]
        if problems:
            raise Invalid(problems)
        self.folders = folders
        self.layout: Layout = folders[BASE].layout
        self.kinds: dict[str, Kind] = {t.name: self.layout.kind(t) for t in self.layout.tensors}
        self.dtype: torch.dtype = getattr(torch, zoo.dtype)
        self.memo = Memo()
        self._blocks: tuple[Partition, tuple[Block, ...]] | None = None
        self._files: dict[Path, Any] = {}
        self._tensors: dict[tuple[str, str], Tensor] = {}
        self._open = ExitStack()

    @property
    def base(self) -> Folder:
        """The base's folder."""
        return self.folders[BASE]

    def tensor(self, model: str, name: str) -> Tensor:
        """A stored tensor of a model, read-only by agreement. KeyError when there is none."""
        key = (model, name)
        if key not in self._tensors:
            folder = self.folders[model]
            file = self._file(folder.path / folder.files[name])
            self._tensors[key] = file.get_tensor(name).to(self.device)
        return self._tensors[key]

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
