"""Opens what is compared, runs and directories of `jaxsafety eval`, as the same kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsafety.benchmarks import outcomes
from jaxsafety.benchmarks.organism import EXACT
from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.report import page
from jaxsafety.report.compare.sources import LOGP, Judge, Key, Measured, Model, Source
from jaxsafety.report.load import Run
from jaxsafety.report.measurement.load import TASKS, Measurement, rate_of
from jaxsafety.report.words import FILES, by

FIELD = "--compare"
BASE = "base"
# As `experiment.setting` calls judges that have no name, so that a run's and a measurement's agree.
BY_PHRASES, BY_TASK, BY_SCORE = "phrase rules", "the rule of its task", "log-probabilities"


def read(paths: list[Path]) -> list[Source]:
    """Opens what is compared.

    Raises:
      UsageError: fewer than two, one of them twice, no directory, or one without results.
    """
    if len(paths) < 2:
        raise bad(FIELD, " ".join(map(str, paths)) or "nothing", "two runs or more")
    seen: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise bad(FIELD, str(path), "an existing directory")
        if path.resolve() in seen:
            raise bad(FIELD, str(path), "each run once: this one is named before")
        seen[path.resolve()] = path
    return [_open(path, label) for path, label in zip(paths, _labels(list(seen)), strict=True)]


def _labels(paths: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [path.parts for path in paths]
    count = 1
    while count < max(map(len, parts)) and len({p[-count:] for p in parts}) < len(parts):
        count += 1
    return ["/".join(p[-count:]).lstrip("/") for p in parts]


def _open(path: Path, label: str) -> Source:
    source = _measurement(path, label) if (path / "eval.json").is_file() else _run(path, label)
    if not any(model.rates for model in source.models):
        raise bad(FIELD, str(path), "a run with results: results.jsonl or eval.json has none")
    return source


def _run(path: Path, label: str) -> Source:
    run = Run(path)
    if not run.records:
        raise bad(FIELD, str(path), "a run with results.jsonl, or what `jaxsafety eval` made")
    arms = sorted(dict.fromkeys(r["arm"] for r in run.records), key=lambda arm: arm != BASE)
    if arms == [BASE]:
        allowed = "a run that measured what it made: this one has results of its base alone"
        raise bad(FIELD, str(path), allowed)
    models = _models(arms, label)
    lead = next((m for m in models if m.arm == run.after), models[-1])
    world, pools = _files(run).get("model: world.json", ""), _pools(run.pools)
    for model in models:
        for record in run.records:
            if record["arm"] != model.arm:
                continue
            name, kind = str(record["benchmark"]), str(record["kind"])
            metric, _, decoding = str(record["metric"]).rpartition(".")
            key = Key(name, decoding, _judge_of(run, pools.get(name, [name])[0], kind, world))
            model.rates[key, metric] = rate_of(record)
            if name not in pools and key not in model.told and kind in outcomes.METRICS:
                place = f"{model.arm}/{name}.{decoding}.jsonl"
                files = path / "generations" / place, path / "verdicts" / place
                model.told[key] = Measured(kind, *files)
    kinds = {str(r["benchmark"]): str(r["kind"]) for r in run.records}
    marks = _at(run.config, "eval", "reasoning")
    return Source(
        path,
        label,
        run.method,
        models,
        lead,
        _base_of(run),
        run.words,
        kinds,
        pools,
        {name: run.title(name) for name in kinds},
        dict(page.flat(run.config)),
        {
            "base model": _base_of(run)[:8] or "not known",
            "judge": run.meta.get("judge"),
            **({"git": str(run.meta["git"])[:12]} if run.meta.get("git") else {}),
            **dict(page.flat({"versions": run.meta.get("versions") or {}})),
        },
        tuple(map(str, marks)) if isinstance(marks, list) else (),
    )


def _at(config: Mapping[str, Any], section: str, name: str) -> Any:
    """A setting, None where there is none."""
    found = config.get(section)
    return found.get(name) if isinstance(found, Mapping) else None


def _models(arms: list[str], label: str) -> list[Model]:
    """Labels: the base is called so, the only other one as its source."""
    others = [arm for arm in arms if arm != BASE]
    return [
        Model(
            arm,
            f"{label}: {arm}" if arm == BASE or len(others) > 1 else label,
            arm == BASE,
        )
        for arm in arms
    ]


def _pools(told: Any) -> dict[str, list[str]]:
    """Pool -> sets; what is torn is no pool."""
    found = told if isinstance(told, Mapping) else {}
    return {str(k): [*map(str, v)] for k, v in found.items() if isinstance(v, list) and v}


def _files(run: Run) -> dict[str, str]:
    files = run.meta.get("files")
    return {str(k): str(v) for k, v in files.items()} if isinstance(files, Mapping) else {}


def _base_of(run: Run) -> str:
    """The digest that `identity.model_fingerprint` gives the model that it began with."""
    files = {k.removeprefix("model: "): v for k, v in _files(run).items() if k[:7] == "model: "}
    weights = sorted(name for name in files if name.endswith((".safetensors", ".gguf")))
    parts = [*weights, *(["config.json"] if "config.json" in files else [])]
    if not weights:
        return ""
    return disk.fingerprint(files[name] for name in parts)


def _judge_of(run: Run, name: str, kind: str, world: str) -> Judge:
    """Who judged a set of a run."""
    sets = run.meta.get("sets")
    own = sets.get(name) if isinstance(sets, Mapping) else None
    told = own.get("judge") if isinstance(own, Mapping) else None
    asked = _at(run.config, "eval", "judge")
    if asked:
        judge, _, where = str(asked).partition("=")
        digests = [v for k, v in _files(run).items() if k.startswith("eval.judge")]
        return Judge(_title(judge, where), " ".join(digests))
    if not told:
        told = (
            EXACT if run.source == "organism" else BY_TASK if kind == "capability" else BY_PHRASES
        )
    return Judge(str(told), world if told == EXACT else "")


def _title(name: str, where: str) -> str:
    """What a judge is called: the same whether a run or a measurement asked it."""
    if name in ("rules", TASKS):
        return BY_PHRASES if name == "rules" else BY_TASK
    return f"the judge {name}" + (f" ({Path(where).name or where})" if where else "")


def _measurement(path: Path, label: str) -> Source:
    measured = Measurement(path)
    arms = sorted(measured.arms, key=lambda arm: arm != BASE)
    if not arms:
        raise bad(FIELD, str(path), "a measurement of a model: eval.json names none")
    models = _models(arms, label)
    kinds = {name: str(facts.get("kind")) for name, facts in measured.sets.items()}
    pools: dict[str, list[str]] = {}
    heard = [
        (_judge(judge.facts, judge.folder), judge.root, judge.records) for judge in measured.judges
    ]
    for model in models:
        for judge, root, records in [*heard, (Judge(BY_SCORE), None, measured.scored)]:
            own = disk.read_json(root / "verdicts" / "pools.json") if root else None
            pools |= _pools(own)
            for record in records:
                if record["arm"] == model.arm:
                    _add(model, record, judge, path, root, kinds, pools)
    opinion = next((judge for judge in measured.opinions), None)
    words = FILES
    if opinion is not None and not opinion.bound:
        words = by(FILES, opinion.title)
    first = measured.arm(BASE)
    base = "" if first.get("adapter") else str(first.get("fingerprint") or "")
    settings = measured.facts.get("settings")
    marks = settings.get("reasoning") if isinstance(settings, Mapping) else None
    return Source(
        path,
        label,
        "measurement",
        models,
        models[-1],
        base,
        words,
        kinds,
        pools,
        {name: words.pools.get(name, name) if name in pools else name for name in kinds},
        dict(page.flat({"measured with": settings or {}})),
        {
            "base model": base[:8] or "not known",
            "model": str(measured.arm(models[-1].arm).get("fingerprint") or "")[:8],
            "judge": ", ".join(judge.title for judge, _, _ in heard),
            **dict(page.flat({"versions": measured.facts.get("versions") or {}})),
        },
        tuple(map(str, marks)) if isinstance(marks, list) else (),
    )


def _judge(facts: Mapping[str, Any], folder: str) -> Judge:
    name, where = str(facts.get("name") or folder), str(facts.get("where") or "")
    return Judge(_title(name, where), str(facts.get("content") or ""))


def _add(
    model: Model,
    record: Mapping[str, Any],
    judge: Judge,
    path: Path,
    root: Path | None,
    kinds: dict[str, str],
    pools: Mapping[str, list[str]],
) -> None:
    """A record of a measurement, and where the answers behind it are."""
    name, kind = str(record["benchmark"]), str(record["kind"])
    metric, _, decoding = str(record["metric"]).rpartition(".")
    if root is None and decoding != LOGP:  # answers that lm-eval would read otherwise
        return
    kinds.setdefault(name, kind)
    key = Key(name, decoding, judge)
    model.rates[key, metric] = rate_of(record)
    if name not in pools and key not in model.told and kind in outcomes.METRICS:
        place = f"{model.arm}/{name}.{decoding}.jsonl"
        verdicts = root / "verdicts" / place if root else None
        model.told[key] = Measured(kind, path / "generations" / place, verdicts)
