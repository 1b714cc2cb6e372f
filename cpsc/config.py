"""Settings of one distillation run: frozen, nested and checked on construction.

Defaults are those of the CPSC-DFKD paper (Shao et al. 2023, sec. 4.1, and the command that its authors publish). What the other
methods change is in their presets. This file holds what the methods share. Terms and sections that belong to a single method are in
that method's file; `cpsc.methods.config_class` adds them to these classes. Plain dataclasses keep this package free of pydantic;
``__pydantic_config__`` lets the command line validate the same definition and reject unknown keys with their path.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from cpsc.kinds import of_stated_kinds
from cpsc.rules import FORBID_UNKNOWN, at_most, below_one, non_negative, positive, require, rising_epochs

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Annealing = Literal["cosine", "milestones"]
T = TypeVar("T")

MOST_RECALLED = 64
"""Upper limit of remembered images in a student batch, per new image."""

IMAGE_SECTIONS = ("replay", "inversion")
"""Sections of `DistillConfig` that a method has or lacks, depending on how it makes its images."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("weights")
class LossWeights:
    """Weights of the loss terms. A term of weight 0 is not computed. The file of a method says which terms it has.

    A method's own terms are additional fields, 0 unless set. ``weights[name]`` is the weight of any term.
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
    """Reward of the generator for the student's disagreement with the teacher (CPSC-DFKD eq. 10; the paper fixes it to 1)."""
    batch_statistics: float = 1.0
    """Batch-norm statistics of the synthetic images (CPSC-DFKD eq. 2, beta)."""
    contrast: float = 0.7
    """CPSC-DFKD: teacher-anchored supervised contrast, eq. 8, gamma. CMI: contrast between images."""
    label: float = 0.7
    """Cross-entropy with the sampled label: CPSC-DFKD eq. 7, eta, in both phases; ADI and CMI for the images only."""
    one_hot: float = 0.0
    """Confidence of the teacher on the generator's images: DAFL, PRE-DFKD, DFQ."""
    balance: float = 0.0
    """Sum of p log p of the batch's mean class probabilities: DAFL, PRE-DFKD, DFQ."""
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
    """The student and how it is trained: by default SGD with linear warm-up and cosine decay."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    arch: str = "resnet18"
    initial: Literal["random", "selected", "reconstructed", "auto"] = "random"
    """Initial weights. `random`: drawn. The others are for a student that is a smaller network of the teacher's family. `selected`:
    taken from the teacher's weights (Xu et al. 2024, arXiv:2311.18823). `auto`: `selected` if the student is such a network, else
    `random`. `reconstructed`: channels are chosen, and each layer is fitted by least squares to what the teacher's layer computes
    on the first synthetic images and on dead leaves (`cpsc.models.reconstruction`)."""
    hints: float = 0.0
    """Weight of the distance between the stages of a reconstructed student and the teacher's channels that they were made from
    (Romero et al. 2015, arXiv:1412.6550). It is computed on every batch that is passed through the teacher."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    warmup_epochs: int = 10
    annealing: Annealing = "cosine"
    final_lr_fraction: float = 0.0
    """Where the cosine ends. With the paper's 0 the last epoch trains at rate 0, and a short run cannot spare an epoch."""
    milestones: tuple[int, ...] = ()
    """Epochs after which `annealing: milestones` multiplies the learning rate by `decay`."""
    decay: float = 0.1
    clip_norm: float | None = None
    """Largest norm of the gradient."""
    train_mode_in_generator_phase: bool = True
    """Keep the student in train mode while the generator trains, too: it uses batch statistics and updates the running ones (as
    published)."""

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
    """The generator, and its Adam with milestones. ADI optimises the pixels themselves, so only the Adam matters there."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    family: Literal["conditional", "pre", "dafl", "zskt", "dfad", "small", "large"] = "conditional"
    """Which published generator: CPSC-DFKD's conditional one, those of four other methods, or the two of the DataFree toolbox."""
    latent_dim: int = 256
    width: int = 128
    """Channels of the first two stages. The third stage has half as many, the first stage of `large` twice as many."""
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
    """`fresh` builds a new Adam for every step, as the published CPSC-DFKD code does (so it keeps no moments)."""
    decay_lr: bool = True
    """False keeps the learning rate constant, as the published CPSC-DFKD code does in effect."""
    clip_norm: float | None = None
    """Largest norm of the gradient."""
    eval_mode_in_student_phase: bool = False
    """Use running statistics while the student trains (the DataFree toolbox) instead of those of the batch."""
    spectral_norm: Literal["warmed", "cold"] = "warmed"
    """How the `pre` family estimates its largest singular values: by one power iteration per training pass. `warmed`: PyTorch's
    current form, which starts with 15 iterations. `cold`: PyTorch's first form, which starts with none; the published PRE-DFKD code
    uses it."""

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
    """For a method that makes one batch per turn for its pool (NAYER): batches that enter the pool before the student's turn."""
    generator_steps: int = 6
    student_steps: int = 5
    batch_size: int = 512
    student_batch_size: int | None = None
    """Images that a student step draws from a pool (ADI, CMI). Default: `batch_size`."""
    order: Literal["generator_first", "student_first"] = "generator_first"
    student_images: Literal["fresh", "regenerated", "shared"] = "fresh"
    """`fresh`: new latents at each student step. `regenerated`: for all student steps of the iteration, the generator step's
    latents, passed through the updated generator again (ZSKT). `shared`: the images of the generator step themselves (DAFL: one
    joint step)."""
    generator_warmup_epochs: int = 0
    """Epochs in which only the generator trains, without an adversary (DFQ, NAYER)."""
    generator_warmup_turns: int | None = None
    """Generator turns per iteration in those epochs. Default: `generator_turns`."""

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

    `vae`: as in PRE-DFKD, a variational autoencoder that imitates all earlier images; Binici et al. 2022 (arXiv:2201.03019),
    sec. 3, with the values of the published code. `images`: as in MB-DFKD, some of the images themselves; Binici et al. 2022
    (arXiv:2108.05698).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    kind: Literal["none", "vae", "images"] = "none"
    fraction: float = 0.125
    """Remembered images in a student batch, as a share of the new ones. With `images` it may also be a multiple, or 0."""
    rehearsals: int = 0
    """`images`: student steps on a full batch of remembered images alone, per step on new ones."""
    capacity: int = 1280
    """`images`: how many are kept at most; beyond that the oldest are dropped."""
    every_epochs: int = 5
    """`images`: how often images are stored: after the first epoch and then every so many epochs, as many of the last batch as a
    batch recalls. 0: all new images of every batch."""
    answers: Literal["asked", "kept"] = "asked"
    """`images`: `asked` passes remembered images through the teacher each time; `kept` stores its answers with them, which saves
    these passes."""
    latent_dim: int = 1000
    """This setting and all below belong to the autoencoder."""
    updates: int = 4
    """The autoencoder is updated after each of the first so many student steps of an iteration."""
    lr: float = 5e-4
    refine_lr: float = 0.02
    """Adam's rate in the one step that makes the drawn latents confident and class-balanced."""
    balance: float = 5.0
    """Weight of the class balance (base-10 logarithm) in that step."""
    latent_kl: float = 1e-5
    leak: bool = False
    """Let the refinement's gradients reach the decoder, as in the published code, which forgets to clear them."""

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
    """Images that are made batch by batch and kept in a pool: what ADI and CMI do instead of training one generator."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    labels: Literal["balanced", "random"] = "balanced"
    """Classes of a batch: `balanced`, each as often as the others as far as the batch size allows; or drawn at random."""
    annealing: Literal["constant", "cosine"] = "constant"
    """Learning rate while a batch is made. `cosine`: from `generator.lr` to 0, so that few steps suffice."""
    keep: Literal["best", "last"] = "best"
    """Which step's images enter the pool: those of the lowest loss, or the last (what the published codes do by mistake)."""
    clip: bool = False
    """ADI: clip the pixels to valid values after each step."""
    clip_noise: bool = False
    """ADI, with `clip`: also clip the noise that a batch starts from. In the toolbox the first step sees it unclipped."""
    jitter: int | None = 2
    """ADI: each step shifts the batch circularly by up to this many pixels; null: an eighth of the side (the toolbox)."""
    flip: bool = False
    """ADI: each step mirrors the batch with probability one half."""
    crop_padding: int = 4
    """Padding, in pixels, of the random crops of the pool's images for the student, and of CMI's views; 0: no crops."""
    mirror: bool = True
    """Also mirror these images at random."""
    pool_size: int = 1_000_000
    """How many images are kept; beyond that the oldest are dropped."""
    draw: Literal["uniform", "priority"] = "uniform"
    """How the student's images are drawn from the pool. `uniform`: each once before any twice. `priority`: an image is drawn more
    often the further the student was from the teacher when it last saw it (`cpsc.priorities`); the student's loss on each image is
    then weighted to make up for how often it is drawn."""
    priority_exponent: float = 0.6
    """`priority`: images are drawn in proportion to this power of the gap; 0: uniformly (Schaul et al. 2016, eq. 1, alpha)."""
    importance_exponent: float = 0.4
    """`priority`: how far the weights correct for the drawing in the first epoch; it rises to 1, the full correction, in the last
    (Schaul et al. 2016, sec. 3.4, beta)."""
    quantise: Literal["round", "truncate"] = "round"
    """How finished images become whole grey levels: the nearest level; or the next lower one, as in the toolbox's PNG files, which
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
    """What is mixed into the student's new images, with any method: see `cpsc.mixing`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    blended: float = 0.0
    """Share of the images that are blends of two."""
    dead_leaves: float = 0.0
    """Share of a batch that is replaced by dead leaves, images that need no data (`cpsc.dead_leaves`)."""

    def __post_init__(self) -> None:
        require(0 <= self.blended <= 1, "mixing.blended", self.blended, "in [0, 1]")
        require(0 <= self.dead_leaves < 1, "mixing.dead_leaves", self.dead_leaves, "in [0, 1)")


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("switches")
class SwitchesConfig:
    """Choices between the forms of a term where paper and published code differ, for the methods other than CPSC-DFKD."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    kl_mean: Literal["batch", "element"] = "batch"
    """ZSKT: the KL divergence averaged over the batch, or over batch and classes (which divides it by C)."""
    balance_base: Literal["e", "10"] = "e"
    """DAFL, PRE-DFKD, DFQ: base of the logarithm in the class balance."""
    disagreement: Literal["jensen_shannon", "clamped", "unbounded"] = "jensen_shannon"
    """PRE-DFKD, ADI: `jensen_shannon`, the divergence; or `clamped`, what the published codes compute on clamped probabilities
    (PRE-DFKD: per element), limited to [0, 1]. ADI only: `unbounded`, the same without that limit, as in the toolbox."""
    statistics: Literal["norm", "gaussian"] = "norm"
    """DFQ: distance of batch-norm statistics by 2-norms, or as KL divergence of Gaussians (the paper)."""
    total_variation: Literal["norm", "mean"] = "norm"
    """ADI: sum of the differences' norms, or of their mean magnitudes."""
    image_prior: Literal["plain", "jittered"] = "plain"
    """ADI: total variation and norm of the pixels as they are (the paper, the toolbox); or, as in the published DeepInversion code,
    after the step's circular shift, where the seam counts as an edge."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("")
class DistillConfig:
    """Everything that determines the numbers of one run, together with the teacher and the probe set."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    method: str = "cpsc"
    """The name of a method, or the import path ``package.module:Class`` of your own."""
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
    """Run the networks through torch.compile: a worker's first step takes a minute or more, later ones are faster.

    Passes that a method observes through hooks (ZSKT's attention, CMI's features) and CMI's generator are not compiled.
    """
    diverged_above: float = 1e6
    """A loss term counts as diverged, like one that is NaN, if the absolute value of its mean times its weight exceeds this.

    Terms of a healthy run are far smaller: cross-entropies and KL are at most some hundred nats even between saturated
    networks, logarithms some tens, batch statistics at most some thousands. A run that passes a million does not recover.
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
        """Synthetic images that either network learns from; rehearsed ones count each time, mixed-in ones do not."""
        schedule = self.schedule
        student = schedule.student_steps * (1 + self.replay.rehearsals) * (schedule.student_batch_size or schedule.batch_size)
        return schedule.iterations * (schedule.generator_turns * schedule.generator_steps * schedule.batch_size + student)

    def section(self, kind: type[T]) -> T:
        """The section of class `kind`, which belongs to a method; its defaults if this config does not have that section."""
        return next((value for value in vars(self).values() if isinstance(value, kind)), None) or kind()
