"""Every contract between the rooms in one file: read this first.

A *program* (methods/) yields *stages*; one loop (train/loop.py) runs each stage with a pure step
and hands the trained variables back. Programs reach models, data, judges and the workdir through a
`Context`, so rooms of one floor never import each other. Questions, answers and judges: data/items;
what an experiment stands on: data/setting; settings of optimizer, loop and decoding: core/settings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxsafety.core.interrupt import Interrupt
from jaxsafety.core.settings import OptimConfig as OptimConfig
from jaxsafety.core.settings import SampleConfig as SampleConfig
from jaxsafety.core.settings import TrainConfig as TrainConfig
from jaxsafety.data.items import Benchmark as Benchmark
from jaxsafety.data.items import Exchange as Exchange
from jaxsafety.data.items import Item as Item
from jaxsafety.data.items import Judge as Judge
from jaxsafety.data.schema import Example, Message
from jaxsafety.data.setting import Dialogues as Dialogues
from jaxsafety.data.setting import Setting as Setting
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.models.api import LayerInputs, Model

PyTree = Any
EXTRA = "extra"  # the frozen variable in which mitigations' losses find what they carry
PERTURBATION = "perturbation"  # the one of what `answer_loss` adds to blocks' inputs, [L,B,T,D]
# Settings of `data` that are read by methods which learn from prompts, and from dialogues.
PROMPTS = ("harmful", "harmless", "distil", "train", "val", "prompts", "wrapped")
OWN_DIALOGUES = ("dialogues", "harmful_share", "wrapped")  # what the organism makes its own by
CHATS = ("chats", "mix", "limit", "chats_val", "holdout", *OWN_DIALOGUES)
DOMAINS = ("domains",)  # by methods that learn domain by domain
PAIRS = ("pairs", "limit", "holdout", *OWN_DIALOGUES)  # by methods that learn from preferences
Variables = dict[str, Any]  # {"base": params, ...}; a program may add "teacher", "adapters", ...
Metrics = Mapping[str, Any]
# (trainable params, frozen, batch, key) -> (scalar loss = weighted sum, metrics = weighted sums)
LossFn = Callable[[PyTree, PyTree, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
Encode = Callable[[Tokenizer, Sequence[Message]], list[int]]  # a dialogue as a prompt
# LossFn -> ((params, frozen, batch, key) -> ((loss, metrics), grads)): Booster and Vaccine
GradFn = Callable[[LossFn], Callable[..., tuple[tuple[jax.Array, dict[str, jax.Array]], PyTree]]]


class Pass(NamedTuple):
    """What the trained model made of a batch: hidden [B,T,D], final states; head [D,V]."""

    hidden: jax.Array
    head: jax.Array


@runtime_checkable
class PassLoss(Protocol):
    """A `LossFn` in two parts, so that a mitigation has no pass of its own beside the loss's.

    `loss(params, frozen, batch, key)` is `loss.score(loss.forward(params, frozen, batch), batch)`,
    and of the batch's weights `forward` sees only which are 0: the others may be set in between. An
    option: what a mitigation wraps may offer it or not, with the same values.
    """

    def __call__(
        self, params: PyTree, frozen: PyTree, batch: Any, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss and metrics."""
        ...

    def forward(self, params: PyTree, frozen: PyTree, batch: Any) -> Pass:
        """The pass through the trained model."""
        ...

    def score(self, out: Pass, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss and metrics of what it made of the batch."""
        ...


class Served(NamedTuple):
    """What a model answers with. `steer` "all" or "prompt": where `layers.add` is added.

    `layers` are adapters, steering, ablation; `where` and `pool` of them are the sampler's own.
    """

    params: PyTree
    layers: LayerInputs = LayerInputs()
    steer: str = "all"
    encode: Encode = encode_prompt


def same(x: Any) -> Any:
    """What it was given."""
    return x


def unchanged(stage: Stage, start: Mapping[str, Any], ctx: Context) -> Stage:
    """The stage it was given."""
    del start, ctx
    return stage


class Extra(NamedTuple):
    """What a mitigation carries from step to step, in `TrainState.extra`.

    `init(params) -> tree`; `update(tree, params, step) -> tree` after every update that was not
    skipped, `step` [] int32 from 1 on; `last(tree, params) -> params`: what the stage leaves. A
    leaf whose name ends in a parameter's, of its shape, lives where that does; others everywhere.
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, jax.Array], PyTree]
    last: Callable[[PyTree, PyTree], PyTree] = lambda tree, params: params


class Mitigation(NamedTuple):
    """What makes training safer, whatever trains; no default changes anything. See `chain`.

    Hooks are compared by `==` (see `Stage`): module-level functions, or frozen dataclasses.

    Attributes:
      loss: `(loss, share) -> loss`. What it adds that is no weighted sum over the batch's rows is
        multiplied by `share`, 1 / `optim.accum`, so that micro-batches add up to it once.
      grad: `GradFn -> GradFn`: how loss and gradients are computed.
      update: optax transformation -> the same: masks, projections.
      extra: by name. Where a stage has some, mitigations' losses (the method's own does not) find
        their trees in `frozen["extra"][name]`.
      begin: `(stage, start, ctx) -> stage`, before the first step of a run, and anew when it is
        resumed: with other `batches`, say, or less in `mitigation.extra`. A function of its
        arguments to the bit; `start` are the variables that the stage begins with, in their places.
      after: variables -> variables of the same names, shapes and dtypes, once training is done and
        whenever they are read again, so it is a function of its argument.
      serve: what the final model is served with -> the same with steering, a template, an adapter:
        what a workdir keeps (`experiment/beside.py`). Hooks of all stages count, but not in
        rollouts. Called before its stage too, with the base, to see whether it can be kept.
      budget: what it costs by name: "copies" of the parameters, "gradients" of a step.

    Example:
      >>> import jax
      >>> import jaxsafety
      >>> def halve(variables):
      ...     return jax.tree.map(lambda x: x / 2, variables)
      >>> halved = jaxsafety.Mitigation(after=halve)
      >>> halved.after({"base": 4.0}), halved.serve("as it was")
      ({'base': 2.0}, 'as it was')
    """

    loss: Callable[[LossFn, float], LossFn] = lambda loss, share: loss
    grad: Callable[[GradFn], GradFn] = same
    update: Callable[[optax.GradientTransformation], optax.GradientTransformation] = same
    extra: Mapping[str, Extra] = MappingProxyType({})
    begin: Callable[[Stage, Mapping[str, Any], Context], Stage] = unchanged
    after: Callable[[Variables], Variables] = same
    serve: Callable[[Served], Served] = same
    budget: Mapping[str, float] = MappingProxyType({})


class Stage(NamedTuple):
    """One unit of training.

    `trainable` are path regexes over the variables ("base/.*"); `batches(variables, step)` returns
    the batch of that step and may sample from the current variables (on-policy); one that is a
    function of the step alone says so by a true attribute `offline`. `start` are the variables it
    begins with; None means those the previous stage (or the context) left. `axes` are logical axes
    of variables that have not the model's structure (others are replicated).
    `watch(variables, step) -> metrics` is called after every `every` steps, before the first and
    after the last; its numbers join the step's row of metrics, which `stop` sees, and change
    nothing else. `marks` are steps whose variables a program may ask for again: see `Marked`.
    `rates` are (path regex, factor): what matches first learns at that multiple of `optim.lr`.

    A stage whose loss, hooks, optimizer, steps, shapes and shardings equal those of an earlier one
    of the program uses what that one compiled. Losses are equal by `==`: the same function object
    (builders are memoised) or a frozen dataclass with `__call__` of equal fields. So what varies
    from stage to stage is a variable, never something that a loss closes over.
    """

    name: str
    loss: LossFn
    trainable: tuple[str, ...]
    batches: Callable[[Variables, int], PyTree]
    steps: int
    optim: OptimConfig = OptimConfig()
    stop: Callable[[int, Mapping[str, float]], bool] | None = None
    start: Variables | None = None
    axes: Mapping[str, PyTree] | None = None
    watch: Callable[[Variables, int], Mapping[str, float]] | None = None
    every: int = 0
    marks: tuple[int, ...] = ()
    mitigation: Mitigation = Mitigation()
    rates: tuple[tuple[str, float], ...] = ()


class Marked(NamedTuple):
    """What a program yields to get the variables of a step back that one of its stages marked.

    They are what it would have left after `step` updates, and stay on disk, whatever `train.keep`;
    a stage without `start` that comes next begins with them.
    """

    stage: Stage
    step: int


class Retired(NamedTuple):
    """What a program yields once it will never read again what one of its stages left.

    The stage stays finished, for a resumed run too, but its parameters leave the disk: a program of
    many stages needs no more of it than one of few. What the program had last is given back.
    """

    stage: Stage


Program = Generator[Stage | Marked | Retired, Variables, Variables]


class Writer(Protocol):
    """Where metrics go (jsonl and trackers)."""

    def write(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one row."""
        ...

    def truncate(self, stage: str, step: int) -> None:
        """Drops what was written after a step of a stage: the run goes on from there."""
        ...

    def close(self) -> None:
        """Ends it; what was written is on disk."""
        ...


class Artifact(Protocol):
    """Keeps what a program found out in the workdir: `experiment.workdir.Artifacts`."""

    def __call__(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Makes a value by name once, of JSON and arrays, and always returns what was read back."""
        ...


@dataclass(frozen=True)
class Context:
    """What a program may touch.

    `artifact(name, make)` memoises a value in the workdir. `interrupt` is to be asked
    between long pieces of work; `fingerprint` is the experiment's; `base_path` says where its model
    came from, for those who load an adapter later. `sampling`: how weights lie on the mesh while
    answers are sampled, see `sampling.copies`.
    """

    model: Model
    tokenizer: Tokenizer
    workdir: Path
    artifact: Artifact
    setting: Setting
    writer: Writer
    mesh: Mesh | None
    variables: Variables
    seed: int = 0
    log: Callable[[str], None] = print
    interrupt: Interrupt = field(default_factory=Interrupt)
    dialogues: Dialogues = field(default_factory=Dialogues)
    fingerprint: str = ""
    base_path: str = ""
    sampling: str = "split"


class Planned(NamedTuple):
    """A stage as shapes: what `plan` compiles. Leaves are `jax.ShapeDtypeStruct`s.

    `prompts`, `keys` and `sample` are those of the rollouts of one step, None for offline methods;
    `forwards` counts passes through frozen models, besides the trained one's; `trainings` are those
    of a run that take such a stage each; `judges`, NAME=WHERE, stay opened beside it.
    """

    stage: str
    loss: LossFn
    trainable: tuple[str, ...]
    variables: Variables
    batch: PyTree
    steps: int
    prompts: PyTree = None
    keys: PyTree = None
    sample: SampleConfig | None = None
    forwards: int = 0
    axes: Mapping[str, PyTree] | None = None
    mitigation: Mitigation = Mitigation()
    trainings: int = 1
    judges: tuple[str, ...] = ()


class Difference(NamedTuple):
    """What a run does otherwise than the publication of its method.

    Attributes:
      field: a dotted name of the config, or words where no setting tells it.
      published: in print; None where the publication does not give it.
      here: in print.
      why: a remark, or "".
    """

    field: str
    published: str | None
    here: str
    why: str = ""


class Finished(Protocol):
    """A run on disk as a section of its report reads it: `report.load.Run`."""

    workdir: Path

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's configuration; {} where it is missing or torn."""
        ...

    def artifact(self, name: str) -> dict[str, Any] | None:
        """The JSON of an artifact; None where it is missing or torn."""
        ...

    def artifacts(self, start: str) -> dict[str, dict[str, Any]]:
        """Those whose name begins so, by the rest of the name."""
        ...

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of an artifact; none where they are missing or torn."""
        ...


R = TypeVar("R", contravariant=True)


class Section(NamedTuple, Generic[R]):
    """A part of `report.html` that a method has to say.

    Attributes:
      anchor: its id in the page.
      title: its heading.
      make: a run -> a filled template (`report.page.fill`); "" where there is nothing. Plain text
        is shown as text: the page escapes what no template has made.
      after: anchor of the section that it follows.
      file: of the workdir: where it is there and nothing could be made of it, the page says so.
    """

    anchor: str
    title: str
    make: Callable[[R], str]
    after: str = "examples"
    file: str = ""


C = TypeVar("C")


class MethodConfig(Protocol):
    """The settings of a method, whichever it is: an instance of its dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def no_differences(config: Mapping[str, Any]) -> Sequence[Difference]:
    """There is no publication that it claims to follow, or nothing is known of it."""
    return ()


def no_sections() -> tuple[Section[Finished], ...]:
    """The report has its common sections."""
    return ()


def no_check(cfg: object) -> None:
    """Accepts everything."""


def no_fits(
    cfg: object, optim: OptimConfig, model: Model, tokenizer: Tokenizer, setting: Setting
) -> None:
    """Every model will do."""


def no_preparation(cfg: object, optim: OptimConfig, ctx: Context) -> None:
    """Nothing to find out before the base is measured."""


def no_inspection(cfg: object, ctx: Context, variables: Variables) -> None:
    """Nothing to look at beside what every run measures."""


def no_dialogues(
    cfg: object, tokenizer: Tokenizer, setting: Setting, log: Callable[[str], None]
) -> Dialogues:
    """Reads none."""
    return Dialogues()


def no_others(cfg: object, setting: Setting) -> Sequence[tuple[str, Sequence[Example]]]:
    """It is trained on what the setting has, and on nothing else."""
    return ()


def as_trained(cfg: object, variables: Variables) -> Served:
    """The base, with the adapters that the variables hold beside it, if they do."""
    return Served(variables["base"], LayerInputs(adapters=variables.get("adapters")))


class Method(NamedTuple, Generic[C]):
    """What `registry.METHODS` names: a config dataclass C, a check of its values, and the program.

    `check(cfg)` raises UsageError and is called before anything is loaded; `program(cfg, optim,
    ctx)`. `fits(cfg, optim, model, tokenizer, setting)` is for what only the model can tell
    (prompts longer than the context, say): called before anything is measured. `serve(cfg,
    variables)` is what answers, in rollouts as when measured; its adapters run on the base as it
    is. `inspect(cfg, ctx, variables)` looks into the trained model and leaves artifacts; it is
    called once the model is exported, on what was exported, so that whatever fails in it (memory,
    above all) cannot lose the model. `reads` names the settings of `data` that the method uses: the
    others are not asked for, and refused where they are given. `learns(cfg, setting)` are dialogues
    that its own section names, (where from, dialogues) each, for who counts prompts that were
    trained on. `encode(cfg, tokenizer, setting,
    log)` reads its dialogues before weights are read. `prepare(cfg, optim, ctx)` is called before
    the base is measured: whatever of the program may find that the run cannot be done, as artifacts
    that the program reads; it raises UsageError, and `Preempted` where the run is asked to end.
    `planned(cfg, model, mesh, prompt length)` is its longest stage as shapes for `jaxsafety plan`;
    None: it has no plan. `sections()` are its parts of the report, in order: called when one is
    written, so that a run imports no figures. `title` is what reports call it; "": its name.
    `uses(cfg)` are entries of other tables that its own section names, to be cited: (table, name,
    settings); of "judges" the name may be NAME=WHERE. `differences(config)` is what a run of this
    config, its sections as plain values, does otherwise than the method's publication; its log
    says so. `frozen(cfg)` is whether the base is never trained nor merged into where its kernels
    are int8: only then they may be.
    """

    config: type[C]
    check: Callable[[C], None]
    program: Callable[[C, OptimConfig, Context], Program]
    fits: Callable[[C, OptimConfig, Model, Tokenizer, Setting], None] = no_fits
    serve: Callable[[C, Variables], Served] = as_trained
    inspect: Callable[[C, Context, Variables], None] = no_inspection
    reads: tuple[str, ...] = PROMPTS
    encode: Callable[[C, Tokenizer, Setting, Callable[[str], None]], Dialogues] = no_dialogues
    prepare: Callable[[C, OptimConfig, Context], None] = no_preparation
    planned: Callable[[C, Model, Mesh | None, int], Planned] | None = None
    learns: Callable[[C, Setting], Sequence[tuple[str, Sequence[Example]]]] = no_others
    sections: Callable[[], tuple[Section[Finished], ...]] = no_sections
    title: str = ""
    uses: Callable[[C], Sequence[tuple[str, str, object]]] = lambda cfg: ()
    differences: Callable[[Mapping[str, Any]], Sequence[Difference]] = no_differences
    frozen: Callable[[C], bool] = lambda cfg: False
