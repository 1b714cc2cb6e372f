"""Settings of one distillation run: frozen, nested, checked on construction.

Defaults are the CPSC-DFKD paper's (Shao et al. 2023, sec. 4.1, and the command its authors publish); what the other methods change
stands in their presets. Here is what methods share: terms and sections that one of them brings along are in its own file, and join
these classes by `cpsc.methods.config_class`. Plain dataclasses keep this package free of pydantic; ``__pydantic_config__`` lets the
edge validate the same definition and reject unknown keys with their path.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from cpsc.kinds import of_stated_kinds
from cpsc.rules import FORBID_UNKNOWN, at_most, below_one, non_negative, positive, require, rising_epochs

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Annealing = Literal["cosine", "milestones"]
T = TypeVar("T")

MOST_RECALLED = 64
"""Images of a memory in a student batch, for each new one."""

IMAGE_SECTIONS = ("replay", "inversion")
"""Sections of `DistillConfig` that a method has or not by how its images are made."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("weights")
class LossWeights:
    """Factors of the loss terms; a term of weight 0 is not computed. Which of them a method has, its file says.

    Terms that a method brings along are further fields, 0 unless set: ``weights[name]`` is the factor of any of them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    kl: float = 1.0
    """KL divergence of student and teacher (CPSC-DFKD eq. 6; the paper fixes it to 1)."""
    l2: float = 5.0
    """Log-L2 distance of CPSC-DFKD eq. 6, alpha."""
    l1: float = 0.0
    """Mean absolute logit difference: DFAD in both phases, PRE-DFKD for the student."""
    attention: float = 0.0
    """Attention transfer to the student: ZSKT."""
    adversarial: float = 1.0
    """What the generator wins by the student's disagreement with the teacher (CPSC-DFKD eq. 10; the paper fixes it to 1)."""
    batch_statistics: float = 1.0
    """Batch-norm statistics of the synthetic images (CPSC-DFKD eq. 2, beta)."""
    contrast: float = 0.7
    """CPSC-DFKD: teacher-anchored supervised contrast, eq. 8, gamma. CMI: contrast between images."""
    label: float = 0.7
    """Cross-entropy with the sampled label: CPSC-DFKD eq. 7, eta, in both phases; ADI and CMI for the images only."""
    one_hot: float = 0.0
    """Confidence of the teacher on the generator's images: DAFL, PRE-DFKD, DFQ."""
    balance: float = 0.0
    """Sum of p log p of the batch's mean class: DAFL, PRE-DFKD, DFQ."""
    activation: float = 0.0
    """Strength of the teacher's features: DAFL, PRE-DFKD."""
    total_variation: float = 0.0
    """Smoothness of inverted images: ADI."""
    image_norm: float = 0.0
    """Norm of inverted images: ADI."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            non_negative(f"weights.{name}", value)
        generator = any(value for name, value in vars(self).items() if name not in ("kl", "l2", "l1", "attention"))
        require(generator, "weights", 0.0, "not all 0 in the generator's loss: it would learn nothing")
        brought = any(value for name, value in vars(self).items() if name not in LossWeights.__dataclass_fields__)
        student = self.kl or self.l2 or self.l1 or brought
        require(bool(student), "weights.kl and weights.l2", 0.0, "not both 0: the student would learn nothing")

    def __getitem__(self, term: str) -> float:
        return float(vars(self)[term])


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("student")
class StudentConfig:
    """The student and how it is trained: SGD with linear warm-up and cosine decay, unless told otherwise."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    arch: str = "resnet18"
    initial: Literal["random", "selected", "reconstructed", "auto"] = "random"
    """First weights: drawn; or, of a student that is a smaller network of the teacher's family, `selected` from the teacher's own
    (Xu et al. 2024, arXiv:2311.18823; `auto`: where it is one), or `reconstructed`: channels chosen, and each layer fitted by
    least squares to what the teacher's computes on the first synthetic images and on dead leaves (`cpsc.models.reconstruction`)."""
    hints: float = 0.0
    """Weight of the distance between the stages of a reconstructed student and those channels of the teacher's that it was made of
    (Romero et al. 2015, arXiv:1412.6550), wherever the teacher is asked about a batch."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    warmup_epochs: int = 10
    annealing: Annealing = "cosine"
    final_lr_fraction: float = 0.0
    """Where the cosine ends. At the paper's 0 the last epoch trains with rate 0, which short runs cannot spare."""
    milestones: tuple[int, ...] = ()
    """Epochs after which `annealing: milestones` multiplies the learning rate by `decay`."""
    decay: float = 0.1
    clip_norm: float | None = None
    """Largest norm of the gradient."""
    train_mode_in_generator_phase: bool = True
    """Batch statistics, and updates of the running ones, also while the generator trains (as published)."""

    def __post_init__(self) -> None:
        positive("student.lr", self.lr)
        below_one("student.momentum", self.momentum)
        require(not self.nesterov or self.momentum > 0, "student.momentum", self.momentum, "> 0 with student.nesterov")
        non_negative("student.weight_decay", self.weight_decay)
        non_negative("student.warmup_epochs", self.warmup_epochs)
        require(0 <= self.final_lr_fraction <= 1, "student.final_lr_fraction", self.final_lr_fraction, "in [0, 1]")
        rising_epochs("student.milestones", self.milestones)
        require(0 < self.decay <= 1, "student.decay", self.decay, "in (0, 1]")
        if self.clip_norm is not None:
            positive("student.clip_norm", self.clip_norm)
        non_negative("student.hints", self.hints)
        is_made = self.initial == "reconstructed"
        require(is_made or not self.hints, "student.hints", self.hints, "0 unless student.initial is reconstructed")


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("generator")
class GeneratorConfig:
    """What makes the images, and its Adam with milestones. For ADI the pixels themselves: only the Adam counts then."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    family: Literal["conditional", "pre", "dafl", "zskt", "dfad", "small", "large"] = "conditional"
    """Which published generator: CPSC-DFKD's conditional one, those of four methods, and the two of the DataFree toolbox."""
    latent_dim: int = 256
    width: int = 128
    """Channels of the first two stages; the third has half, the first of `large` twice as many."""
    embedding: Literal["none", "three_layer", "full"] = "full"
    """How many of the conditional family's four norm layers are categorical feature embeddings (CPSC-DFKD, table 5)."""
    lr: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.999
    milestones: tuple[int, ...] = (50, 150)
    """Epochs after which the learning rate is multiplied by `decay`."""
    decay: float = 0.1
    annealing: Annealing = "milestones"
    optimizer: Literal["persistent", "fresh"] = "persistent"
    """`fresh` builds a new Adam for every step, as the published CPSC-DFKD code does (no moments)."""
    decay_lr: bool = True
    """False keeps the learning rate, as the published CPSC-DFKD code does in effect."""
    clip_norm: float | None = None
    """Largest norm of the gradient."""
    eval_mode_in_student_phase: bool = False
    """Running statistics while the student trains (the DataFree toolbox) instead of the batch's."""
    spectral_norm: Literal["warmed", "cold"] = "warmed"
    """How the `pre` family estimates its largest singular values, by one power iteration at each training pass: PyTorch's present
    form, which begins with 15 of them, or its first one, which begins with none and which the published PRE-DFKD code has."""

    def __post_init__(self) -> None:
        positive("generator.latent_dim", self.latent_dim)
        at_most("generator.latent_dim", self.latent_dim, 65_536)
        require(self.width >= 2 and self.width % 2 == 0, "generator.width", self.width, "even and >= 2")
        at_most("generator.width", self.width, 4096)
        positive("generator.lr", self.lr)
        below_one("generator.beta1", self.beta1)
        below_one("generator.beta2", self.beta2)
        rising_epochs("generator.milestones", self.milestones)
        require(0 < self.decay <= 1, "generator.decay", self.decay, "in (0, 1]")
        if self.clip_norm is not None:
            positive("generator.clip_norm", self.clip_norm)


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("schedule")
class ScheduleConfig:
    """One epoch: `iterations` times (`generator_turns` of `generator_steps` updates of G, then `student_steps` updates of S)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    iterations: int = 50
    generator_turns: int = 1
    """Of a method whose turn makes one batch for its pool: batches that enter it before the student has its turn (NAYER)."""
    generator_steps: int = 6
    student_steps: int = 5
    batch_size: int = 512
    student_batch_size: int | None = None
    """Images a student step draws from a pool (ADI, CMI); default: `batch_size`."""
    order: Literal["generator_first", "student_first"] = "generator_first"
    student_images: Literal["fresh", "regenerated", "shared"] = "fresh"
    """New latents at each student step; or the generator step's latents, once more through the updated generator, for all
    student steps of the iteration (ZSKT); or that step's very images (DAFL: one joint step)."""
    generator_warmup_epochs: int = 0
    """Epochs in which only the generator trains, without an adversary (DFQ, NAYER)."""
    generator_warmup_turns: int | None = None
    """Turns of the generator in an iteration of these; default: `generator_turns`."""

    def __post_init__(self) -> None:
        for name in ("iterations", "generator_turns", "generator_steps", "student_steps", "batch_size"):
            value = getattr(self, name)
            positive(f"schedule.{name}", value)
            at_most(f"schedule.{name}", value, 65_536 if name == "batch_size" else 1_000_000)
        require(self.batch_size >= 2, "schedule.batch_size", self.batch_size, ">= 2 (batch norm)")
        if self.student_batch_size is not None:
            require(2 <= self.student_batch_size <= 65_536, "schedule.student_batch_size", self.student_batch_size, "in 2..65536")
        non_negative("schedule.generator_warmup_epochs", self.generator_warmup_epochs)
        if self.generator_warmup_turns is not None:
            require(
                1 <= self.generator_warmup_turns <= 10_000,
                "schedule.generator_warmup_turns",
                self.generator_warmup_turns,
                "in 1..10000",
            )
        require(
            self.student_images == "fresh" or self.order == "generator_first",
            "schedule.order",
            self.order,
            f"generator_first with schedule.student_images {self.student_images}",
        )


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("replay")
class ReplayConfig:
    """Memory of earlier images for the student, for any method with a generator.

    `vae`: PRE-DFKD's, a variational autoencoder that imitates them all; Binici et al. 2022 (arXiv:2201.03019), sec. 3, with the
    values of the published code. `images`: MB-DFKD's, some of them as they are; Binici et al. 2022 (arXiv:2108.05698).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    kind: Literal["none", "vae", "images"] = "none"
    fraction: float = 0.125
    """Memory images in a student batch, as a share of the new ones, of `images` also a multiple or none."""
    rehearsals: int = 0
    """`images`: student steps on remembered images alone, a whole batch of them each, for each step on new ones."""
    capacity: int = 1280
    """`images`: how many are kept at most; beyond it the oldest go."""
    every_epochs: int = 5
    """`images`: after the first epoch, and every so many epochs from then on, as many of the last batch's as a batch recalls are
    kept; 0: all new ones of every batch."""
    answers: Literal["asked", "kept"] = "asked"
    """`images`: whether the teacher is asked about them each time, or its answers are kept with them, which saves its passes."""
    latent_dim: int = 1000
    """This and all below of the autoencoder."""
    updates: int = 4
    """Student steps of an iteration after which the autoencoder is updated, the first ones."""
    lr: float = 5e-4
    refine_lr: float = 0.02
    """Adam's rate in the one step that makes the drawn latents confident and class-balanced."""
    balance: float = 5.0
    """Weight of the balance, to the base 10, in that step."""
    latent_kl: float = 1e-5
    leak: bool = False
    """Let the refinement's gradients reach the decoder, as those that the published code forgets to clear do."""

    def __post_init__(self) -> None:
        positive("replay.latent_dim", self.latent_dim)
        at_most("replay.latent_dim", self.latent_dim, 65_536)
        most = MOST_RECALLED if self.kind == "images" else 1
        is_optional = self.kind == "images" and self.rehearsals > 0
        rule = f"in {'[' if is_optional else '('}0, {most}]"
        require(0 <= self.fraction <= most and (is_optional or self.fraction > 0), "replay.fraction", self.fraction, rule)
        most_rehearsed = MOST_RECALLED if self.kind == "images" else 0
        rule = f"in 0..{most_rehearsed} with replay.kind {self.kind}"
        require(0 <= self.rehearsals <= most_rehearsed, "replay.rehearsals", self.rehearsals, rule)
        require(1 <= self.capacity <= 100_000_000, "replay.capacity", self.capacity, "in 1..100000000")
        non_negative("replay.every_epochs", self.every_epochs)
        require(not (self.rehearsals and self.every_epochs), "replay.every_epochs", self.every_epochs, "0 with replay.rehearsals")
        for name in ("lr", "refine_lr"):
            positive(f"replay.{name}", getattr(self, name))
        for name in ("updates", "balance", "latent_kl"):
            non_negative(f"replay.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("inversion")
class InversionConfig:
    """Images made batch by batch and kept: what ADI and CMI do instead of training one generator."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    labels: Literal["balanced", "random"] = "balanced"
    """Classes of a batch: as equally often as it holds, or drawn."""
    annealing: Literal["constant", "cosine"] = "constant"
    """The rate while a batch is made; `cosine`: from `generator.lr` to nothing, so that few steps suffice."""
    keep: Literal["best", "last"] = "best"
    """Which step's images enter the pool: that of the lowest loss, or the last (what the published codes do by mistake)."""
    clip: bool = False
    """ADI: hold the pixels to valid values after each step."""
    clip_noise: bool = False
    """ADI, with `clip`: hold the noise that a batch begins as to them, too. The toolbox lets the first step see it as it is."""
    jitter: int | None = 2
    """ADI: each step shifts the batch circularly by up to this many pixels; null: an eighth of the side (the toolbox)."""
    flip: bool = False
    """ADI: each step mirrors the batch with probability one half."""
    crop_padding: int = 4
    """Random crops of the pool's images for the student, and of CMI's views; 0: none."""
    mirror: bool = True
    """Random mirror images of the same."""
    pool_size: int = 1_000_000
    """Images kept; beyond it the oldest go."""
    draw: Literal["uniform", "priority"] = "uniform"
    """Which of the pool's images the student is given: each once before any twice; or by `priority`, the more often, the further it
    was from the teacher when it last saw them (`cpsc.priorities`). Its loss on each is then weighted by how seldom it is drawn."""
    priority_exponent: float = 0.6
    """`priority`: the power of the gap that an image is drawn by; 0: all alike (Schaul et al. 2016, eq. 1, alpha)."""
    importance_exponent: float = 0.4
    """`priority`: how far weights make up for the drawing in the first epoch; from there it rises to 1, altogether, in the last
    (the same, sec. 3.4, beta)."""
    quantise: Literal["round", "truncate"] = "round"
    """How finished images become whole grey levels: the nearest; or the next lower, as the toolbox writes its PNG files, which
    darkens the pool by half a level."""

    def __post_init__(self) -> None:
        for name, limit in (("jitter", 1024), ("crop_padding", 1024)):
            value = getattr(self, name)
            require(value is None or 0 <= value <= limit, f"inversion.{name}", value, f"in 0..{limit}")
        require(self.clip or not self.clip_noise, "inversion.clip", self.clip, "true with inversion.clip_noise")
        require(1 <= self.pool_size <= 100_000_000, "inversion.pool_size", self.pool_size, "in 1..100000000")
        for name in ("priority_exponent", "importance_exponent"):
            value, path = getattr(self, name), f"inversion.{name}"
            require(0 <= value <= 1, path, value, "in [0, 1]")
            is_used = self.draw == "priority" or value == getattr(InversionConfig, name)
            require(is_used, path, value, "left out unless inversion.draw is priority")


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("mixing")
class MixingConfig:
    """What is mixed into the student's new images, of any method: see `cpsc.mixing`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    blended: float = 0.0
    """Share of them that are blends of two."""
    dead_leaves: float = 0.0
    """Share of a batch that are images of no data instead."""

    def __post_init__(self) -> None:
        require(0 <= self.blended <= 1, "mixing.blended", self.blended, "in [0, 1]")
        require(0 <= self.dead_leaves < 1, "mixing.dead_leaves", self.dead_leaves, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("switches")
class SwitchesConfig:
    """Forms in which papers and published codes state one and the same term, for the methods other than CPSC-DFKD."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    kl_mean: Literal["batch", "element"] = "batch"
    """ZSKT: the KL divergence averaged over the batch, or over its classes, too (which divides it by C)."""
    balance_base: Literal["e", "10"] = "e"
    """DAFL, PRE-DFKD, DFQ: base of the balance's logarithm."""
    disagreement: Literal["jensen_shannon", "clamped", "unbounded"] = "jensen_shannon"
    """PRE-DFKD, ADI: the divergence; or what the published codes compute on clamped probabilities (PRE-DFKD: by element), held
    to [0, 1]. ADI: or the same not held to it, as in the toolbox."""
    statistics: Literal["norm", "gaussian"] = "norm"
    """DFQ: distance of batch-norm statistics by 2-norms, or as KL divergence of Gaussians (the paper)."""
    total_variation: Literal["norm", "mean"] = "norm"
    """ADI: sum of the differences' norms, or of their mean magnitudes."""
    image_prior: Literal["plain", "jittered"] = "plain"
    """ADI: total variation and norm of the pixels (the paper, the toolbox), or, as the published DeepInversion code takes them,
    of what the step's shift made of them, whose seam then counts as an edge."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("")
class DistillConfig:
    """Everything that decides the numbers of one run, together with the teacher and the probe set."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    method: str = "cpsc"
    """A row of the table of methods, or ``package.module:Class``."""
    epochs: int = 600
    seed: int = 0
    distillation_temperature: float = 1.0
    """Temperature of the KL term; the term is multiplied by its square."""
    contrast_temperature: float = 0.07
    """Temperature of the contrast (CPSC-DFKD eq. 8, tau)."""
    weights: LossWeights = field(default_factory=LossWeights)
    student: StudentConfig = field(default_factory=StudentConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    inversion: InversionConfig = field(default_factory=InversionConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    switches: SwitchesConfig = field(default_factory=SwitchesConfig)
    precision: Precision = "auto"
    """`auto`: bf16 where the processor multiplies it natively, else fp32. Losses are always float32."""
    compile: bool = False
    """Run the networks as torch.compile fuses them: a minute or more before the first step of a worker, faster from then on.

    Passes that a method watches from within (ZSKT's attention, CMI's features) and CMI's generator stay as they are.
    """
    diverged_above: float = 1e6
    """A loss term whose mean times its weight is larger than this, up or down, has diverged as surely as one that is NaN.

    Terms that train lie far below: cross-entropies and KL are at most some hundred nats even between saturated
    networks, logarithms some tens, batch statistics at most some thousands; what passes a million does not come back.
    """

    def __post_init__(self) -> None:
        positive("epochs", self.epochs)
        at_most("epochs", self.epochs, 1_000_000)
        positive("diverged_above", self.diverged_above)
        non_negative("seed", self.seed)
        positive("distillation_temperature", self.distillation_temperature)
        positive("contrast_temperature", self.contrast_temperature)
        require(
            self.student.warmup_epochs <= self.epochs,
            "student.warmup_epochs",
            self.student.warmup_epochs,
            f"<= epochs ({self.epochs})",
        )
        warmup = self.schedule.generator_warmup_epochs
        require(warmup < self.epochs, "schedule.generator_warmup_epochs", warmup, f"< epochs ({self.epochs})")

    @property
    def images_per_epoch(self) -> int:
        """Synthetic images that either network learns from, those that are rehearsed each time; what is mixed in does not count."""
        schedule = self.schedule
        student = schedule.student_steps * (1 + self.replay.rehearsals) * (schedule.student_batch_size or schedule.batch_size)
        return schedule.iterations * (schedule.generator_turns * schedule.generator_steps * schedule.batch_size + student)

    def section(self, kind: type[T]) -> T:
        """The section of that class, which a method brings along; its defaults where this config has none of it."""
        return next((value for value in vars(self).values() if isinstance(value, kind)), None) or kind()
