"""Read any layer of a model without touching it."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from understudy import nearest
from understudy.errors import UserError


class Taps:
    """Collects the outputs of modules while it is open::

        with Taps(student, ["backbone.blocks.-1.attention.qkv"]) as taps:
            student(inputs)
        taps["backbone.blocks.-1.attention.qkv"]

    Negative numbers count from the end of a list. A module that is called again replaces its output; of a tuple the first element is kept. Gradients flow.
    Raises UserError for a path that does not exist.
    """

    def __init__(self, module: nn.Module, paths: Iterable[str]):
        self._found = {path: find(module, path) for path in paths}
        self._outputs: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Taps:
        for path, module in self._found.items():
            self._hooks.append(module.register_forward_hook(lambda _module, _inputs, output, path=path: self._keep(path, output)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _keep(self, path: str, output: Any) -> None:
        self._outputs[path] = output[0] if isinstance(output, tuple) else output

    def __getitem__(self, path: str) -> Tensor:
        if path not in self._outputs:
            raise LookupError(f"the layer '{path}' was not called while it was tapped")
        return self._outputs[path]

    @property
    def outputs(self) -> dict[str, Tensor]:
        """The latest output of every path that was called."""
        return dict(self._outputs)


def find(module: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path. Raises UserError naming the nearest one."""
    here = module
    for depth, part in enumerate(path.split(".")):
        children = dict(here.named_children())
        if part.startswith("-") and part[1:].isdigit() and 0 < int(part[1:]) <= len(children):
            part = list(children)[int(part)]
        if part not in children:
            before = ".".join(path.split(".")[:depth]) or type(module).__name__
            hint = nearest.hint(part, children, f"it has {', '.join(list(children)[:8]) or 'no layers inside'}")
            raise UserError(f"there is no layer '{path}': {before} has no '{part}'; {hint}")
        here = children[part]
    return here


def tokens(output: Tensor) -> Tensor:
    """What a block put out, one vector a position, ``[B, T, D]``: a map ``[B, D, H, W]`` row by row, tokens as they are."""
    return output.flatten(2).transpose(1, 2) if output.ndim == 4 else output
