"""`jaxsafety plan`: compiles a config for a TPU slice or GPUs that are not here."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxsafety.core.errors import bad

HELP = "compile a config for a TPU slice or GPUs and say whether it fits"


def add(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.add_argument("--config", required=True, metavar="FILE.py[:ARG]")
    command.add_argument(
        "--topology", required=True, metavar="NAME", help="such as v5p:2x2x4 or h100:8"
    )
    command.add_argument(
        "--mesh", metavar="auto", help="tries meshes and says which is best and why"
    )
    command.add_argument("--prompt", type=int, help="tokens of the longest prompt; default: 256")
    command.add_argument("--json", type=Path, metavar="FILE", help="writes the report there too")


def call(args: argparse.Namespace) -> None:
    """Does what was asked for."""
    if args.prompt is not None and args.prompt < 1:
        raise bad("--prompt", args.prompt, "1 or more")
    if args.mesh not in (None, "auto"):
        raise bad("--mesh", args.mesh, "auto; sizes are config.mesh.data, .fsdp and .tensor")
    from jaxsafety.core import config, disk, outputs
    from jaxsafety.planning import gpu, topology

    if args.json is not None:
        outputs.file("--json", args.json)
    if topology.parse(args.topology).gpus:
        gpu.fraction()
        gpu.prepare()
    cfg = config.load_config(args.config, args.overrides)
    import json

    from jaxsafety.planning import plan
    from jaxsafety.planning.table import table

    found = plan.plan(cfg, args.topology, prompt=args.prompt or 0, auto=bool(args.mesh))
    if args.json is not None:
        with disk.replaced(args.json) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(table(found))
