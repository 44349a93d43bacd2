"""Training in one process, or in several under ``torchrun`` through Lightning Fabric."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cwsam_geo.errors import UsageError
from cwsam_geo.model.device import resolve_device


class Processes(Protocol):
    """The processes that train one model together, as seen from one of them."""

    rank: int
    """Number of this process, from 0."""
    world: int
    """Number of processes."""
    device: torch.device
    """Device of this process."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Returns the model as a module that averages gradients over the processes."""

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum of the values of all processes, in each of them."""

    def wait(self) -> None:
        """Returns once all processes have called this."""

    def local_gradients(self, model: nn.Module, local: bool) -> AbstractContextManager[Any]:
        """A context for the backward pass; if ``local``, it does not exchange gradients.

        Used while gradients of several batches accumulate before a step.
        """


class OneProcess:
    """Training in a single process; every operation leaves its argument as it is."""

    rank = 0
    world = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Returns the model itself."""
        return model

    def sum(self, values: Tensor) -> Tensor:
        """Returns the values themselves."""
        return values

    def wait(self) -> None:
        """Returns at once."""

    def local_gradients(self, model: nn.Module, local: bool) -> AbstractContextManager[Any]:
        """A context without effect: gradients are always local."""
        return contextlib.nullcontext()


class FabricProcesses:
    """The processes of a ``torchrun``, each with its own device.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        world: Number of processes.
        local_world: Number of them on this machine.

    Raises:
        UsageError: Lightning Fabric is not installed, or the device is one that all processes
            would have to share.
    """

    def __init__(self, device: str, world: int, local_world: int) -> None:
        try:
            from lightning_fabric import Fabric
        except ImportError:
            raise UsageError(
                "training in several processes needs Lightning Fabric: "
                "pip install 'cwsam-geo[multi]'"
            ) from None
        kind = resolve_device(device).type
        if ":" in device or kind not in ("cpu", "cuda"):
            raise UsageError(
                f"--device {device}: under torchrun each process takes its own device; "
                "use --device cuda or --device cpu"
            )
        # The training loop handles mixed precision itself, so that one process and several compute
        # alike. Fabric must not add its own.
        self._fabric: Any = Fabric(
            accelerator=kind,
            strategy="ddp",
            devices=local_world,
            num_nodes=world // local_world,
            precision="32-true",
        )
        self._fabric.launch()
        self.rank: int = self._fabric.global_rank
        self.world: int = self._fabric.world_size
        self.device: torch.device = self._fabric.device

    def wrap(self, model: nn.Module) -> nn.Module:
        """Returns the model in torch's DistributedDataParallel."""
        wrapped: nn.Module = self._fabric.setup_module(model)
        return wrapped

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sum over the processes (all-reduce)."""
        total: Tensor = self._fabric.all_reduce(values, reduce_op="sum")
        return total

    def wait(self) -> None:
        """Returns once all processes have called this."""
        self._fabric.barrier()

    def local_gradients(self, model: nn.Module, local: bool) -> AbstractContextManager[Any]:
        """A context that skips the exchange of gradients if ``local``."""
        context: AbstractContextManager[Any] = self._fabric.no_backward_sync(model, enabled=local)
        return context


def join_processes(
    device: str, environment: Mapping[str, str] = os.environ
) -> OneProcess | FabricProcesses:
    """Joins the processes of a ``torchrun``, or trains alone if there is none.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        environment: Environment variables. ``torchrun`` sets ``WORLD_SIZE`` and
            ``LOCAL_WORLD_SIZE``.

    Raises:
        UsageError: The device does not exist; see also ``FabricProcesses``.
    """
    world = int(environment.get("WORLD_SIZE", "1"))
    if world > 1:
        return FabricProcesses(device, world, int(environment.get("LOCAL_WORLD_SIZE", "1")))
    return OneProcess(resolve_device(device))
