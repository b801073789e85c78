"""How long, how fast and on what a model is trained."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.schema import STRICT, Seed

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """How a model is trained; the same for autoencoders and priors."""

    steps: Positive = 10_000
    """Number of optimizer steps. May be raised later: the same run then goes on."""
    batch_size: Positive = 64
    """Items per optimizer step, over all processes and micro-batches."""
    micro_batches: Positive = 1
    """Parts in which each process computes its share of a batch, to save memory."""
    seed: Seed = 0
    """The integer that the whole run is a function of."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam (with decoupled weight decay, so AdamW), or plain gradient descent."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate after warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What the learning rate does after warm-up: falls to zero along a cosine, or stays."""
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    """Steps over which the learning rate rises to its value."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Adam's weights of the past in the averages of the gradient and of its square."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay of weight matrices; never of biases, norms, embeddings or codebooks."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 10.0
    """Longest gradient, as the norm over all parameters; longer ones are shortened. null: any."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Weight of the past in a moving average of weights and codebook entries, which is then what
    is evaluated and saved. null: the last weights are."""
    device: Literal["auto", "cpu"] = "auto"
    """auto: the GPU (CUDA) when there is one; cpu: the CPU in any case."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the networks; auto is bfloat16 on a GPU that has it, else float32. Codebook
    search and averages are float32 at least in any case."""
    channels_last: bool = True
    """Whether image tensors are laid out with channels last in memory, which is faster."""
    compile: bool = False
    """Whether torch.compile is applied to the networks of a tokenizer; not for priors."""
    deterministic: bool = False
    """Whether only deterministic kernels are used: on a GPU, the same run twice gives the same
    bits. On the CPU it does in any case."""
    num_workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read examples; 0 reads them in the training process."""
    log_every: Positive = 50
    """Steps between two lines of metrics.jsonl."""
    eval_every: Positive | None = None
    """Steps between two evaluations on held-out examples. null: at every checkpoint."""
    eval_items: Positive = 1024
    """Most held-out examples that an evaluation during training reads."""
    checkpoint_every: Positive = 1000
    """Steps between two checkpoints."""
    keep_checkpoints: Positive = 2
    """Number of checkpoints that are kept, the latest ones."""
    trackers: tuple[str, ...] = ()
    """Where else the metrics go, by the names of accelerate: tensorboard, wandb, mlflow, ..."""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """What is shown: a bar, or plain lines; auto is a bar on a terminal and lines elsewhere."""
