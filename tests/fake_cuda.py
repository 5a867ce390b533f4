"""CUDA on a machine without any: tensors on "cuda" have shapes and dtypes but no numbers, tensors on the CPU are real.

    with fake_cuda() as device:
        y = net.to("cuda")(x.to("cuda"))

Code that mixes devices by mistake raises here as it does on a GPU. What would make the CPU wait for the GPU (reading a
number, a copy to the CPU, a copy to the GPU that is not told to be non_blocking) is written down, with the line that
did it; the value that is read is made up. There are no gradients: `backward` does nothing.
"""

import collections
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

ROOT = Path(__file__).resolve().parent.parent
READS: dict[Any, Any] = {
    Tensor.__float__: 1.0,
    Tensor.__int__: 1,
    Tensor.__bool__: True,
    Tensor.item: 1,
}
PACKAGES = ("programs", "skip", "sampling", "metrics", "training", "torch_utils")
OURS = tuple(os.path.join(ROOT, package, "") for package in PACKAGES)


def on_cuda(value: Any) -> bool:
    """Whether this is a tensor on a CUDA device."""
    return isinstance(value, Tensor) and value.device.type == "cuda"


def place() -> str:
    """The innermost line of our own code, as file:line."""
    frame = sys._getframe()
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(OURS):
            return f"{os.path.relpath(path, ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "tests"


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the arguments of an operator, and in its lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


class FakeDevice(TorchDispatchMode):
    """Sends operators on CUDA tensors to FakeTensorMode, and all others to the CPU.

    Attributes:
        waits: how often each line made the CPU wait for the device to tell it something.
        uploads: how often each line made it wait until numbers of its own were there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: collections.Counter[str] = collections.Counter()
        self.uploads: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func.name().split("::")[-1].split(".")[0]
        inputs = [*tensors(args), *tensors(kwargs.values())]
        target = kwargs.get("device")
        to_cuda = target is not None and torch.device(target).type == "cuda"

        if not any(map(on_cuda, inputs)) and not to_cuda:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if name in ("_local_scalar_dense", "is_nonzero", "equal"):
            self.waits[place()] += 1
            return _made_up(inputs[0], name)
        if name == "_to_copy" and on_cuda(args[0]) and target is not None and not to_cuda:
            self.waits[place()] += 1
            return _copied_back(args[0], kwargs.get("dtype"))
        if name == "copy_" and args[0].device != args[1].device:
            if not on_cuda(args[0]):
                self.waits[place()] += 1
            elif not (kwargs.get("non_blocking") or args[2:] == (True,)):
                self.uploads[place()] += 1
            return args[0]

        kwargs.pop("generator", None)  # fake numbers need none
        if not all(isinstance(tensor, FakeTensor) for tensor in inputs):
            args, kwargs = tree_map(self._faked, (args, kwargs))
        return func(*args, **kwargs)

    def to_cuda(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor like this one on the device."""
        with self.fake:
            return torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=dtype or tensor.dtype, device="cuda:0"
            )

    def _faked(self, value: Any) -> Any:
        if isinstance(value, Tensor) and not isinstance(value, FakeTensor):
            return self.fake.from_tensor(value, static_shapes=True)
        return value


ASKED = {"device", "dtype", "non_blocking"}  # of a move that copies only where it must
KNOWN = {*READS, Tensor.new_tensor, Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__}


class FakeMoves(TorchFunctionMode):
    """Moves of tensors between devices, and indexing, which a CPU build of PyTorch does not send to a dispatch mode.

    Args:
        device: where moved tensors go.
    """

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            target, dtype = _destination(func, args[1:], kwargs)
            waits = not kwargs.get("non_blocking")
            if kwargs.keys() <= ASKED and _is_there(args[0], target, dtype):
                return args[0]
            return self._moved(args[0], target, dtype, waits, lambda: func(*args, **kwargs))
        if func in (torch.tensor, torch.as_tensor) and not on_cuda(args[0]):
            target = kwargs.get("device")
            if target is not None and torch.device(target).type == "cuda":
                self.device.uploads[place()] += 1
                return self.device.to_cuda(torch.as_tensor(args[0]), kwargs.get("dtype"))
        if func in KNOWN and on_cuda(args[0]):
            return self._known(func, args, kwargs)
        return func(*args, **kwargs)

    def _moved(
        self,
        tensor: Tensor,
        target: torch.device | None,
        dtype: torch.dtype | None,
        waits: bool,
        otherwise: Callable[[], Any],
    ) -> Any:
        kind = None if target is None else target.type
        if kind == "cuda" and not on_cuda(tensor):
            self.device.uploads[place()] += waits
            return self.device.to_cuda(tensor, dtype)
        if kind == "cpu" and on_cuda(tensor):
            self.device.waits[place()] += 1
            return _copied_back(tensor, dtype)
        return otherwise()

    def _known(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What comes of a function of a tensor on the device."""
        tensor, *rest = args
        if func in READS:
            self.device.waits[place()] += 1
            return READS[func]
        if func is Tensor.new_tensor:
            self.device.uploads[place()] += 1
            return self.device.to_cuda(torch.tensor(rest[0]), kwargs.get("dtype") or tensor.dtype)
        if func is Tensor.copy_:
            torch.broadcast_shapes(tensor.shape, rest[0].shape)
            return tensor
        if func is Tensor.__getitem__:
            return _indexed(self.device, tensor, rest[0])
        if isinstance(rest[1], Tensor):  # of __setitem__
            torch.broadcast_shapes(_indexed(self.device, tensor, rest[0]).shape, rest[1].shape)
        return None


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeDevice]:
    """Within this block "cuda" exists, and its tensors are fake."""
    device = FakeDevice()
    stand_ins: dict[str, Any] = {
        "is_available": lambda: True, "device_count": lambda: 2, "current_device": lambda: 0,
        "set_device": lambda device: None, "is_initialized": lambda: True, "_lazy_init": lambda: None,
        "synchronize": lambda device=None: None, "is_bf16_supported": lambda *about: True,
        "get_device_capability": lambda device=None: (9, 0),
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        on_cpu = torch.Generator
        stack.enter_context(mock.patch.object(torch, "Generator", lambda device=None: on_cpu()))
        # A build without CUDA has no autograd for its tensors, and would abort the process.
        stack.enter_context(torch.no_grad())
        stack.enter_context(mock.patch.object(Tensor, "backward", lambda self: None))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self: self))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        stack.enter_context(FakeMoves(device))
        stack.enter_context(device.fake)
        stack.enter_context(device)
        yield device


def _made_up(tensor: Tensor, name: str) -> Any:
    """What the program is told where it reads a number: everything is finite, and one."""
    if name != "_local_scalar_dense" or tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.dtype.is_floating_point else 1


def _copied_back(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    with unset_fake_temporarily():
        return torch.ones(tuple(tensor.shape), dtype=dtype or tensor.dtype)


def _destination(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.device | None, torch.dtype | None]:
    """The device and dtype that Tensor.to or Tensor.cuda was asked for."""
    implied = {Tensor.cuda: torch.device("cuda", 0), Tensor.cpu: torch.device("cpu")}
    device = implied.get(func)
    dtype = None
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.device | str):
            device = torch.device(value)
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, Tensor):
            device, dtype = value.device, value.dtype
    return device, dtype


def _is_there(tensor: Tensor, device: torch.device | None, dtype: torch.dtype | None) -> bool:
    """Whether this tensor on the device is what a move of it would give; most moves of a network are such."""
    same_device = device is None or device.type == "cuda"
    return on_cuda(tensor) and same_device and dtype in (None, tensor.dtype)


def _indexed(device: FakeDevice, x: Tensor, index: Any) -> Tensor:
    """x[index], by the operators that indexing consists of."""
    parts = list(index) if isinstance(index, tuple) else [index]
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    dim = 0
    gathered: dict[int, Tensor] = {}
    for part in parts:
        if part is Ellipsis:
            dim += x.ndim - taken
        elif part is None:
            x = x.unsqueeze(dim)
            dim += 1
        elif isinstance(part, slice):
            if part != slice(None):
                x = torch.ops.aten.slice.Tensor(x, dim, part.start, part.stop, part.step or 1)
            dim += 1
        elif isinstance(part, list | Tensor) and not (isinstance(part, Tensor) and part.ndim == 0):
            gathered[dim] = _positions(torch.as_tensor(part))
            dim += 1
        else:
            if isinstance(part, Tensor) and on_cuda(part):
                device.waits[place()] += 1
            x = x.select(dim, 0 if isinstance(part, Tensor) else int(part))
    if any(indices.dtype == torch.bool for indices in gathered.values()):
        device.waits[place()] += 1  # how many are true is unknown before the device has counted
        (dim,) = gathered
        return x.narrow(dim, 0, max(x.shape[dim] // 2, 1))
    if gathered:
        x = torch.ops.aten.index.Tensor(x, [gathered.get(d) for d in range(max(gathered) + 1)])
    return x


def _positions(index: Tensor) -> Tensor:
    """An index as whole numbers, where that is known."""
    if index.dtype == torch.bool and not on_cuda(index):
        with unset_fake_temporarily():
            return index.nonzero().flatten()
    return index


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """nn.Module._apply with new parameters in place of the old: a fake tensor cannot be put into a real one."""
    for child in self.children():
        child._apply(fn)
    for name, parameter in list(self._parameters.items()):
        if parameter is not None:
            moved = fn(parameter.detach())
            self._parameters[name] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
    for name, buffer in list(self._buffers.items()):
        if buffer is not None:
            self._buffers[name] = fn(buffer)
    return self
