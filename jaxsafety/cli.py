"""The console script `jaxsafety`: run, eval, report, plan, chat, serve, export, prepare, organism.

Each subcommand imports what it needs when it is called, so `--help` and a mistyped flag answer at
once. A mistake in the input is one line on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxsafety.core import attached, overrides, signals
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.serving import options

# What is true after Ctrl-C ended a command. While `run` works it says so itself, and where it was.
AFTER = {
    "run": "what was finished is kept; the same command goes on",
    "eval": "answers are kept; the same command goes on",
    "organism": "what was saved is kept; the same command goes on",
    "chat": "the conversation is not kept",
    "serve": "it serves no more",
    "export": "nothing was exported",
    "prepare": "the data set is not complete",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns the exit code: 0, 2 for bad input, 130 when interrupted.

    As a program, without `argv`, it leaves at once after Ctrl-C: Python's own end crashes while XLA
    compiles.
    """
    program = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    command = ""
    try:
        argv, given = overrides.split(argv)
        args = _parser().parse_args(argv)
        args.overrides, command = given, args.command
        if given and args.command not in ("run", "plan"):
            raise bad(f"--config.{given[0]}", args.command, "only with `run` and `plan`")
        if args.command != "plan":  # which compiles for TPUs that are not here
            attached.skip_missing_tpus()
        with signals.watch(lambda _: f"stopping; {signals.AGAIN}", _stop, (signal.SIGINT,)):
            args.call(args)
    except UsageError as error:
        print(f"jaxsafety: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        text = AFTER.get(command, "the same command starts again")
        print(f"jaxsafety: interrupted; {text}", file=sys.stderr)
        if program:
            signals.leave(signals.STOPPED)
        return signals.STOPPED
    return 0


def _stop(number: int) -> NoReturn:
    del number
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    """Argparse whose complaints are `UsageError`s like every other one."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="jaxsafety",
        description="Safety alignment of chat models in JAX, measured end to end.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, call: Callable[[argparse.Namespace], None], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(call=call)
        return command

    run = add("run", _run, "align a model, evaluate it before and after, write the report")
    run.add_argument("--config", required=True, metavar="FILE.py[:ARG]")
    run.add_argument("--workdir", type=Path, metavar="DIR", help="default: runs/FOLDER-FILE-ARG")
    run.add_argument(
        "--distributed",
        nargs="?",
        const="auto",
        metavar="HOST:PORT,COUNT,INDEX",
        help="one of several processes; alone it asks the cluster (a TPU pod, Slurm, MPI)",
    )
    run.epilog = (
        "--config.section.key=VALUE changes one setting; the key has to exist, and a wrong one is "
        "answered with those that do. config.json in the workdir has all of them with their values."
    )

    evaluate = add("eval", _eval, "measure any model on public sets, or the models of a run again")
    which = evaluate.add_mutually_exclusive_group()
    which.add_argument("--workdir", type=Path, metavar="DIR", help="a run")
    which.add_argument("--model", metavar="DIR", help="a directory, a GGUF file or a hub id")
    evaluate.add_argument("--out", type=Path, metavar="DIR", help="results of --model")
    _add_variables(evaluate)
    evaluate.add_argument("--rejudge", action="store_true", help="judge the saved generations")
    _add_measuring(evaluate)

    report = add("report", _report, "write the tables and report.html of a run again")
    report.add_argument("--workdir", type=Path, required=True, metavar="DIR")

    planned = add("plan", _plan, "compile a config for a TPU slice and say whether it fits")
    planned.add_argument("--config", required=True, metavar="FILE.py[:ARG]")
    planned.add_argument("--topology", required=True, metavar="NAME", help="such as v5p:2x2x4")
    planned.add_argument("--prompt", type=int, help="tokens of the longest prompt; default: 256")
    planned.add_argument("--json", type=Path, metavar="FILE", help="writes the report there too")

    chat = add("chat", _chat, "talk to a model; /help lists the commands, /quit leaves")
    which = chat.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        metavar="DIR",
        help="a directory, a GGUF file or a hub id; default: the shipped organism",
    )
    which.add_argument("--workdir", type=Path, metavar="DIR", help="what this run made")
    chat.add_argument(
        "--compare",
        metavar="DIR",
        help="another model, or a run, that answers each message too; default: none",
    )
    chat.add_argument("--system", default="", help="a system message; default: none")
    chat.add_argument("--temperature", type=float, default=0.0, help="default: 0, which is greedy")
    chat.add_argument(
        "--max-tokens",
        type=int,
        default=256,
        help="of an answer; default: 256, and never more than half of the context",
    )
    chat.add_argument("--seed", type=int, default=0, help="of sampling; default: 0")
    _add_variables(chat)
    chat.epilog = (
        "On a terminal an answer is shown while it is said, and Ctrl-C stops it. From a pipe each "
        "line is a message, and each answer is printed when it is whole."
    )

    serve = add("serve", _serve, "answer over HTTP as lm-eval, inspect_ai and OpenAI's clients ask")
    _add_variables(serve)
    options.add(serve)

    export = add("export", _export, "write a model directory that transformers loads")
    export.add_argument("--model", required=True, metavar="DIR", help="a GGUF file, or a hub id")
    export.add_argument("--adapter", type=Path, metavar="DIR", help="merges a PEFT LoRA directory")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument(
        "--dtype", default="", help="float32, bfloat16 or float16; default: that of --model"
    )
    export.add_argument("--unsafe", action="store_true", help="merge even an adapter tagged unsafe")

    prepare = add("prepare", _prepare, "write dialogues as a TFDS data set (array_record)")
    prepare.add_argument("--chats", required=True, metavar="FILE", help="jsonl, parquet, ...")
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR")

    organism = add("organism", _organism, "train the base model of another invented world")
    organism.add_argument("--seed", type=int, required=True)
    organism.add_argument("--out", type=Path, required=True, metavar="DIR")
    organism.add_argument("--steps", type=int, help="default: those of the kind's recipe")
    organism.add_argument(
        "--kind",
        default="aligned",
        help="aligned; unaligned, for SafeMoE; or twin: a base before and after its alignment",
    )
    organism.add_argument("--smoke", action="store_true", help="a few tiny steps")
    return parser


def _add_variables(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--variables",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="of the chat template, such as enable_thinking=false; repeatable; default: none",
    )


# Options of `eval` that ask for sets and judges; without any of them --model is an organism's.
MEASURING = ("suite", "data", "judges", "adapter", "arm", "decodings")
MEASURING = (*MEASURING, "limit", "batch_size", "max_tokens", "seed", "reasoning")


def _add_measuring(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--suite", metavar="NAME,...", help="safety, over_refusal, capability, SET"
    )
    command.add_argument(
        "--data",
        action="append",
        metavar="DIR",
        help="with files of public sets; or SET=FILE, or KIND/NAME=FILE for one's own; repeatable",
    )
    command.add_argument("--judges", metavar="NAME[=WHERE],...", help="default: rules")
    command.add_argument("--adapter", type=Path, metavar="DIR", help="a PEFT LoRA directory")
    command.add_argument("--arm", metavar="NAME", help="of the model in the results")
    command.add_argument("--decodings", metavar="NAME,...", help="greedy, t1, t07; default: greedy")
    command.add_argument(
        "--reasoning",
        metavar="OPEN,CLOSE",
        help="marks of a thought, such as <think>,</think>: judges hear what follows it",
    )
    for name, text in (
        ("limit", "prompts per set; default: all"),
        ("batch-size", "answers decoded at once"),
        ("max-tokens", "of an answer; default: what the set asks for"),
        ("seed", "of the choice of prompts and of sampling; default: 0"),
    ):
        command.add_argument(f"--{name}", type=int, metavar="N", help=text)
    command.epilog = (
        "eval --model=DIR --suite=safety,over_refusal --data=DIR --judges=rules --out=DIR measures "
        "a model; the same command goes on after a kill; eval --rejudge --judges=NAME --out=DIR "
        "judges what was said again. --workdir measures the models of a run, --model alone an "
        "organism."
    )


def _existing(field: str, path: Path) -> Path:
    if not path.is_dir():
        raise bad(field, str(path), "an existing directory")
    return path


def _seed(seed: int) -> None:
    if not 0 <= seed < 2**32:  # jax.random.key: a larger one is a smaller one, or a crash
        raise bad("--seed", seed, "an integer, 0 or more, of 32 bits")


def _model(text: str, field: str = "--model") -> Path:
    """The directory or GGUF file of --model, which may be a hub id."""
    from jaxsafety.models.formats import hub

    return hub.directory(text, field)


def _default_workdir(spec: str) -> Path:
    """runs/FOLDER-FILE-ARG of a `--config`: another file or argument is another directory.

    The folders are those below `configs/`; outside of it the one that holds the file.
    """
    name, _, arg = spec.partition(":")
    file = Path(name).absolute()
    folders = list(file.parts[1:-1])
    if "configs" in folders:
        last = len(folders) - 1 - folders[::-1].index("configs")
        folders = folders[last + 1 :]
    parts = [*(folders if "configs" in file.parts else folders[-1:]), file.stem, arg]
    words = [re.sub(r"[^A-Za-z0-9_.=,+-]+", "-", part).strip("-.") for part in parts]
    return Path("runs") / "-".join(word for word in words if word)


def _run(args: argparse.Namespace) -> None:
    from jaxsafety.core import config

    cfg = config.load_config(args.config, args.overrides)
    workdir = args.workdir or _default_workdir(args.config)
    from jaxsafety.core import hosts, outputs
    from jaxsafety.experiment import run

    if args.distributed is not None:
        hosts.start(args.distributed)
    hosts.share(lambda: outputs.directory("--workdir", workdir))
    run.run(cfg, workdir)
    if hosts.leader():
        _show(workdir)


def _eval(args: argparse.Namespace) -> None:
    given = {name: getattr(args, name) for name in MEASURING if getattr(args, name) is not None}
    if args.workdir is not None:
        if given:
            name = next(iter(given))
            raise bad(f"--{name.replace('_', '-')}", given[name], "only with --model")
        if args.out is not None:
            raise bad("--out", str(args.out), "only with --model; a run keeps its own results")
        if args.variables:
            raise bad("--variables", args.variables[0], "only with --model; a run keeps its own")
        _existing("--workdir", args.workdir)
        from jaxsafety.core import outputs
        from jaxsafety.experiment import run

        outputs.directory("--workdir", args.workdir)
        try:
            run.evaluate_workdir(args.workdir, rejudge=args.rejudge)
        except SystemExit:  # some sets are new: the report must not tell of the old ones
            _written(args.workdir)
            raise
        _show(args.workdir)
        return
    if args.model is None and not (args.rejudge and args.out):  # told as argparse does
        text = "one of the arguments --workdir --model is required (see `jaxsafety eval --help`)"
        raise UsageError(text)
    if args.out is None:
        raise bad("--out", "nothing", "a directory for the results of --model")
    if given or args.rejudge:
        _measure(args, given)
        return
    from jaxsafety.core import outputs

    outputs.directory("--out", args.out)
    if (args.out / "eval.json").is_file():
        allowed = "a directory without eval.json, or --suite: this one holds a measurement"
        raise bad("--out", str(args.out), allowed)
    model = _model(str(args.model))
    from jaxsafety.experiment import run

    run.evaluate_model(model, args.out, tuple(args.variables))
    _show(args.out)


def _measure(args: argparse.Namespace, given: dict[str, Any]) -> None:
    """`eval --model` with sets and judges, or `eval --rejudge --out`."""
    from jaxsafety.experiment.measuring import command
    from jaxsafety.experiment.measuring.request import Request

    for name in ("suite", "judges", "decodings"):
        if name in given:
            given[name] = tuple(part.strip() for part in given[name].split(",") if part.strip())
    if "reasoning" in given:  # also an empty mark, which is refused
        given["reasoning"] = tuple(given["reasoning"].split(","))
    given["data"] = tuple(given.get("data") or ())
    if args.rejudge and args.variables:
        raise bad("--variables", args.variables[0], "not with --rejudge: no model is loaded")
    command.measure(
        Request(
            args.out,
            args.model or "",
            variables=tuple(args.variables),
            rejudge=args.rejudge,
            **given,
        )
    )
    _show(args.out)


def _report(args: argparse.Namespace) -> None:
    _existing("--workdir", args.workdir)
    if (args.workdir / "eval.json").is_file():
        from jaxsafety.core import outputs

        outputs.directory("--workdir", args.workdir)
        _show(args.workdir)
        return
    if not (args.workdir / "results.jsonl").is_file():
        raise bad("--workdir", str(args.workdir), "a run with results.jsonl")
    from jaxsafety.core import outputs

    outputs.directory("--workdir", args.workdir)
    _show(args.workdir)


def _show(workdir: Path) -> None:
    """Writes the report and ends with the table and its path."""
    path, table = _written(workdir)
    print(table)
    print(f"report: {path}")


def _written(workdir: Path) -> tuple[Path, str]:
    """The report's path and the table, both on disk."""
    from jaxsafety.core import disk

    if (workdir / "eval.json").is_file():  # a measurement without a training run
        from jaxsafety.report.measurement import page, tables

        path, table = page.write(workdir), tables.table(workdir)
    else:
        from jaxsafety.report import html, tables

        path, table = html.write(workdir), tables.table(workdir)
    with disk.replaced(workdir / "table.txt") as temporary:
        temporary.write_text(table + "\n", "utf-8")
    return path, table


def _plan(args: argparse.Namespace) -> None:
    if args.prompt is not None and args.prompt < 1:
        raise bad("--prompt", args.prompt, "1 or more")
    from jaxsafety.core import config, disk, outputs
    from jaxsafety.planning import topology

    if args.json is not None:
        outputs.file("--json", args.json)
    topology.parse(args.topology)
    cfg = config.load_config(args.config, args.overrides)
    import json

    from jaxsafety.planning import plan
    from jaxsafety.planning.table import table

    found = plan.plan(cfg, args.topology, prompt=args.prompt or 0)
    if args.json is not None:
        with disk.replaced(args.json) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(table(found))


def _chat(args: argparse.Namespace) -> None:
    _seed(args.seed)
    if not 0 <= args.temperature < float("inf"):  # nan too
        raise bad("--temperature", args.temperature, "0 (greedy) or more")
    if args.max_tokens < 1:
        raise bad("--max-tokens", args.max_tokens, "1 or more")
    if args.workdir is not None:
        _existing("--workdir", args.workdir)
    model = _model(args.model) if args.model is not None else None
    other = _model(args.compare, "--compare") if args.compare is not None else None
    from jaxsafety.data.tokens import template
    from jaxsafety.serving import opening
    from jaxsafety.serving.chat import Chat
    from jaxsafety.serving.terminal import Terminal

    variables = template.parse(args.variables, "--variables")
    if args.workdir is not None:
        places = [opening.finished(args.workdir, variables)]
    elif model is not None:
        places = [opening.model(str(args.model), model, variables)]
    else:
        places = [opening.shipped(variables)]
    if other is not None:
        places.append(opening.model(str(args.compare), other, variables))
    chats = {
        name: Chat.open(
            place.path,
            system=args.system,
            temperature=args.temperature,
            max_tokens=args.max_tokens,
            seed=args.seed,
            **place.options,
        )
        for name, place in zip(opening.names(places), places, strict=True)
    }
    Terminal(chats, sys.stdin, sys.stdout).talk()


def _serve(args: argparse.Namespace) -> None:
    for name in ("workdir", "adapter"):
        if getattr(args, name) is not None:
            _existing(f"--{name}", getattr(args, name))
    model = _model(args.model) if args.model is not None else None
    other = _model(args.compare) if args.compare is not None else None
    options.serve(args, model, other)


def _export(args: argparse.Namespace) -> None:
    if args.dtype not in ("", "float32", "bfloat16", "float16"):
        raise bad("--dtype", args.dtype, "float32, bfloat16, float16")
    from jaxsafety.core import outputs

    outputs.directory("--out", args.out)
    if args.out.exists() and any(args.out.iterdir()):
        raise bad("--out", str(args.out), "a directory that does not exist yet or is empty")
    model = _model(args.model)
    from jaxsafety.serving.export import convert

    done = convert(model, args.out, adapter=args.adapter, dtype=args.dtype, unsafe=args.unsafe)
    print(f"model: {args.out} ({done})")


def _prepare(args: argparse.Namespace) -> None:
    from jaxsafety.core import outputs
    from jaxsafety.data.files.tfds_chats import prepare

    outputs.directory("--out", args.out)
    print(f"data: {prepare(args.chats, args.out)}")


def _organism(args: argparse.Namespace) -> None:
    _seed(args.seed)
    if args.steps is not None and args.steps < 1:
        raise bad("--steps", args.steps, "1 or more")
    from jaxsafety.core import outputs

    outputs.directory("--out", args.out)
    from jaxsafety.raising import recipe, twin

    if args.kind not in twin.KINDS:
        raise bad("--kind", args.kind, ", ".join(twin.KINDS))
    if args.kind == twin.KIND:
        twin.train_twin(args.seed, args.out, steps=args.steps, smoke=args.smoke)
        print(f"models: {args.out / twin.UNALIGNED}, {args.out / twin.ALIGNED}")
        return
    recipe.train_base(args.seed, args.out, steps=args.steps, smoke=args.smoke, kind=args.kind)
    print(f"model: {args.out}")
