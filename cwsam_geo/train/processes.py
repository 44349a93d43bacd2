"""One process, or several under ``torchrun``; the latter through Lightning Fabric."""

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
    """The processes that train one model together."""

    rank: int
    """Which of them this is, from 0."""
    world: int
    """How many there are."""
    device: torch.device
    """Where this one computes."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, whose gradients all processes then share."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum of everyone's values."""

    def wait(self) -> None:
        """Returns once all have come here."""

    def local_gradients(self, model: nn.Module, local: bool) -> AbstractContextManager[Any]:
        """Where ``local``, gradients are not shared yet: more batches follow before the step."""


class OneProcess:
    """No other process.

    Args:
        device: Where to compute.
    """

    rank = 0
    world = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself."""
        return model

    def sum(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values

    def wait(self) -> None:
        """Nothing to wait for."""

    def local_gradients(self, model: nn.Module, local: bool) -> AbstractContextManager[Any]:
        """Gradients are local anyway."""
        return contextlib.nullcontext()


class FabricProcesses:
    """The processes of a ``torchrun``, each with its own device.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        world: Number of processes.
        local_world: Number of them on this machine.

    Raises:
        UsageError: Lightning Fabric is not installed, or a device is named that all would share.
    """

    def __init__(self, device: str, world: int, local_world: int) -> None:
        try:
            from lightning_fabric import Fabric
        except ImportError:
            raise UsageError(
                "training in several processes needs Lightning Fabric: "
                "pip install 'cwsam-geo[multi-gpu]'"
            ) from None
        kind = resolve_device(device).type
        if ":" in device or kind not in ("cpu", "cuda"):
            raise UsageError(
                f"--device {device}: under torchrun each process takes its own device; "
                "use --device cuda or --device cpu"
            )
        # Precision stays with the loop, so that one process and several compute alike.
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
        """The model in torch's DistributedDataParallel."""
        wrapped: nn.Module = self._fabric.setup_module(model)
        return wrapped

    def sum(self, values: Tensor) -> Tensor:
        """Adds up over the processes."""
        total: Tensor = self._fabric.all_reduce(values, reduce_op="sum")
        return total

    def wait(self) -> None:
        """Returns once all have come here."""
        self._fabric.barrier()

    def local_gradients(self, model: nn.Module, local: bool) -> AbstractContextManager[Any]:
        """Leaves out the exchange of gradients where ``local``."""
        context: AbstractContextManager[Any] = self._fabric.no_backward_sync(model, enabled=local)
        return context


def join_processes(
    device: str, environment: Mapping[str, str] = os.environ
) -> OneProcess | FabricProcesses:
    """What this process is part of, as ``torchrun`` says in the environment.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        environment: Variables.

    Raises:
        UsageError: The device is not there; see also ``FabricProcesses``.
    """
    world = int(environment.get("WORLD_SIZE", "1"))
    if world > 1:
        return FabricProcesses(device, world, int(environment.get("LOCAL_WORLD_SIZE", "1")))
    return OneProcess(resolve_device(device))
