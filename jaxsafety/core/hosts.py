"""Several processes that run one program: who writes, what all agree on, what one can see.

Every process runs the same code on the same inputs, so each holds every number; files are written
by the first alone (the leader), into a directory that all of them see. What depends on a moment or
on the disk (was SIGTERM sent, is that file there) is decided once and shared, or the processes
would part ways. With one process nothing here does anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxsafety.core.errors import UsageError, bad

AUTO = "auto"


def start(where: str = AUTO) -> None:
    """Joins the other processes; must come before any other use of JAX's devices.

    Args:
      where: "auto" asks the cluster (a TPU pod, Slurm, MPI); else "HOST:PORT,COUNT,INDEX": where
        process 0 listens, how many processes there are, and which of them this is.

    Raises:
      UsageError: a malformed `where`, or no cluster to ask.
    """
    if where != AUTO:
        address, _, rest = where.partition(",")
        count, _, index = rest.partition(",")
        known = ":" in address and count.isdigit() and index.isdigit()
        if not known or not int(index) < int(count):
            raise bad("--distributed", where, "auto, or HOST:PORT,COUNT,INDEX with INDEX < COUNT")
        jax.distributed.initialize(address, int(count), int(index))
        return
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:160]
        allowed = f"a cluster that JAX knows, or HOST:PORT,COUNT,INDEX ({why})"
        raise bad("--distributed", where, allowed) from error


def several() -> bool:
    """Whether more than one process runs the program."""
    return jax.process_count() > 1


def leader() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


def mine(turn: int) -> bool:
    """Whether what the processes take turns at is this one's: turn 0 is the leader's."""
    return turn % jax.process_count() == jax.process_index()


def barrier(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        _collectives().sync_global_devices(name)


def agree(flag: bool) -> bool:
    """Whether any process says yes. All of them have to ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(_collectives().process_allgather(np.asarray(flag))))


def most(values: Sequence[float]) -> list[float]:
    """The largest of each number over all processes, which all have to ask."""
    if jax.process_count() == 1:
        return list(values)
    every = _collectives().process_allgather(np.asarray(values, np.float32))
    return [float(x) for x in np.asarray(every).reshape(-1, len(values)).max(axis=0)]


def share(make: Callable[[], Any]) -> Any:
    """What `make` gives in the leader, in every process; what it raises, as `UsageError`.

    Args:
      make: called by the leader alone; its value goes through JSON.

    Returns:
      The value.
    """
    if jax.process_count() == 1:
        return make()
    packet: dict[str, Any] = {}
    if leader():
        try:
            packet["value"] = make()
        except UsageError as error:
            packet["error"] = str(error)
        except Exception as error:  # or the others would wait for it in vain
            packet["error"] = f"the first process failed: {type(error).__name__}: {error}"
    packet = json.loads(_broadcast(json.dumps(packet).encode()))
    if "error" in packet:
        raise UsageError(packet["error"])
    return packet["value"]


def _broadcast(data: bytes) -> bytes:
    """The leader's bytes. The length goes first: every process has to name the same shape."""
    send = _collectives().broadcast_one_to_all
    length = int(send(np.asarray(len(data), np.int32)))
    room = 1 << max(length - 1, 0).bit_length()  # few shapes, so few compilations
    held = np.zeros(room, np.uint8)
    if leader():
        held[:length] = np.frombuffer(data, np.uint8)
    return np.asarray(send(held), np.uint8)[:length].tobytes()


def gather(value: jax.Array) -> np.ndarray:
    """An array as numpy, whole, wherever its shards are. All processes have to ask."""
    if value.is_fully_addressable or value.is_fully_replicated:
        return np.asarray(value)
    return np.asarray(_collectives().process_allgather(value, tiled=True))


def _collectives() -> Any:
    from jax.experimental import multihost_utils  # late: it asks for devices

    return multihost_utils
