"""`jaxsafety serve`: opens the models, listens, and leaves nothing behind when it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from jaxsafety import registry
from jaxsafety.core.errors import bad
from jaxsafety.experiment import served
from jaxsafety.judges.opening import open_judge
from jaxsafety.models.formats import hf
from jaxsafety.serving import opening
from jaxsafety.serving.batcher import Batcher
from jaxsafety.serving.opening import Place
from jaxsafety.serving.protocol import Limits

TOKEN = "JAXSAFETY_TOKEN"  # the environment's: a command line can be read by every user


def open_model(place: Place, limits: Limits, context: int = 0) -> Batcher:
    """Loads a model, and starts what makes its tokens.

    Raises:
      UsageError: see `served.load` and `Batcher`.
    """
    options = dict(place.options)
    run_s = options.pop("mesh", None)
    mesh = served.mesh_here(hf.read_config(place.path), limits.rows)
    if run_s is not None:
        mesh = served.mesh_of_run(run_s)
    model, tokenizer, what = served.load(place.path, mesh=mesh, **options)
    return Batcher(
        model,
        tokenizer,
        what,
        rows=limits.rows,
        queue=limits.queue,
        context=min(context, model.config.max_length) if context else 0,
        mesh=mesh,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket at that address; found out before a model is loaded.

    Raises:
      UsageError: no such address, or a port that is taken.
    """
    if not 0 <= port < 1 << 16:
        raise bad("--port", port, "0 (any that is free) to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, UnicodeError) as error:
        made.close()
        raise bad(
            "--host, --port", f"{host}, {port}", f"an address to listen at ({error})"
        ) from None
    return made


def serve(
    places: list[Place],
    *,
    host: str,
    port: int,
    limits: Limits,
    context: int = 0,
    judges: Sequence[str] = (),
) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
      places: the models; the first serves requests that name none.
      host: to listen at.
      port: likewise; 0 is any that is free.
      limits: of requests.
      context: tokens of a request, at most; 0 is the model's.
      judges: NAME or NAME=WHERE each, of the answers on the page.

    Raises:
      UsageError: a package that is missing, an address that is taken, a model that cannot be
        opened, or an open address without a token.
    """
    for module in ("starlette", "uvicorn"):
        try:
            __import__(module)
        except ImportError:
            raise registry.lacks("serve", "jaxsafety serve", module) from None
    import uvicorn

    from jaxsafety.serving.server import LOOPBACK, Server

    token = os.environ.get(TOKEN, "")
    if host not in LOOPBACK and not token:
        allowed = f"127.0.0.1, or {TOKEN} in the environment: others can reach it"
        raise bad("--host", host, allowed)
    opened = dict(map(open_judge, judges))
    bound = listen(host, port)
    models: dict[str, Batcher] = {}
    try:
        for name, place in zip(opening.names(places), places, strict=True):
            models[name] = open_model(place, limits, context)
        hosts = LOOPBACK if host in LOOPBACK else ()
        app = Server(models, limits, token=token, hosts=hosts, judges=opened).app()
        url = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"
        bound.listen(1024)  # who reads the line may ask at once
        print(f"serving {', '.join(models)} at {url}/v1 (page: {url}/, Ctrl-C ends)", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=5, server_header=False
        )
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        bound.close()
        for batcher in models.values():
            batcher.close()
