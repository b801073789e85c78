"""The tokens that a prior learns from, those kept from it, and how well priors predict them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqkit.config import TokenDataConfig
    from vqkit.data import Example, FileKind, Items, Splits
    from vqkit.priors import Prior
    from vqkit.tokens import TokenSet


class TokenPart:
    """Some items of a token set as examples.

    Args:
        tokens: All items.
        indices: Numbers of the chosen ones.
    """

    def __init__(self, tokens: "TokenSet", indices: Sequence[int]) -> None:
        self.tokens = tokens
        self.indices = indices
        self.labels = tokens.labels
        self.fingerprint = tokens.fingerprint

    @property
    def lengths(self) -> list[int] | None:
        """How many codes each item has; None where all have as many."""
        lengths = self.tokens.lengths
        return None if lengths is None else [lengths[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def example(self, index: int, seed: int | None = None) -> "Example":
        """The codes of one item in a row, as ``TokenSet.example``."""
        return self.tokens.example(self.indices[index], seed)

    def describe(self, index: int) -> str:
        """Where an item is, for messages."""
        return self.tokens.describe(self.indices[index])


def open_tokens(config: "TokenDataConfig") -> tuple["TokenSet", TokenPart, TokenPart]:
    """The token set of a run, its part for training, and what is held out for evaluation.

    Raises:
        ValueError: If the tokens for evaluation are of another tokenizer or other labels, or of
            the data for training.
    """
    from vqkit.data import split
    from vqkit.tokens import TokenSet

    tokens = TokenSet.open(config.path)
    if config.eval_path is None:
        train, held_out = split(len(tokens), config.eval_fraction, config.split_seed)
        return tokens, TokenPart(tokens, train), TokenPart(tokens, held_out)
    others = TokenSet.open(config.eval_path)
    fixes = {
        "tokenizer": "encode both data sets with one tokenizer",
        "specs": "encode both data sets at one size",
    }
    if config.labels:
        fixes["labels"] = (
            "give both data sets sub-folders of the same names, or set tokens.labels=false"
        )
    for name, fix in fixes.items():
        if getattr(others, name) != getattr(tokens, name):
            both = f"{config.path} and {config.eval_path}"
            raise ValueError(f"{both} have different {name}; {fix}")
    if others.source == tokens.source:
        raise ValueError(
            f"{config.path} and {config.eval_path} are tokens of the same data; give tokens of "
            "other data as tokens.eval_path, or leave it out: then a part is held out"
        )
    whole = TokenPart(tokens, range(len(tokens)))
    return tokens, whole, TokenPart(others, range(len(others)))


def nats_per_token(prior: "Prior", examples: TokenPart, batch_size: int) -> float:
    """What an integer costs on average, in nats, over all items and positions.

    Every rank must call it; they share the items.
    """
    import torch

    from vqkit.codes import Codes
    from vqkit.data import in_order
    from vqkit.distributed import all_reduce, rank, world_size
    from vqkit.priors import Conditioning

    device = prior.slot_sizes.device
    nats, count = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.no_grad():
        for batch in in_order(
            examples, batch_size, indices=range(rank(), len(examples), world_size())
        ):
            moved = batch.to(device)
            codes = Codes.from_flat(moved.x, prior.specs, moved.mask)
            labels = None if prior.num_classes is None else moved.labels
            nats -= prior.log_prob(codes, Conditioning(labels)).sum()
            count += moved.x.numel() if moved.mask is None else moved.mask.sum()
    return float(all_reduce(nats) / all_reduce(count))


def prior_items(run: Path, tokenizer: Path, words: Sequence[str]) -> tuple["Items", "Items"]:
    """The items whose tokens a prior was trained on, and those whose tokens it has not seen.

    Args:
        run: The run folder of the prior.
        tokenizer: The tokenizer in it.
        words: Settings of its data that count more than its own.

    Raises:
        ValueError: If the tokens were made of other data than the tokenizer was trained on.
    """
    from vqkit.cli.runs import CONFIG, config_of
    from vqkit.config import load_prior_config

    if not (run / CONFIG).is_file():
        raise FileNotFoundError(f"{run} has no {CONFIG}; run its vqkit train-prior again")
    _, train, held_out = open_tokens(load_prior_config(run / CONFIG).tokens)
    data = config_of(tokenizer, words).data
    items = data.open()
    return items_behind(train, items, data.kind), items_behind(held_out, items, data.kind)


def items_behind(part: TokenPart, items: "Splits[Any]", kind: "FileKind") -> "Items":
    """The items that some tokens stand for, without augmentation.

    Args:
        part: The tokens.
        items: Of the tokenizer, both splits.
        kind: What they are called.

    Raises:
        ValueError: If the tokens were made of others.
    """
    from vqkit.tokens.encode import source_of

    wanted = {part.tokens.id(i) for i in part.indices}
    for source in (items.train.source, items.evaluation.source):
        parts = [p for p in (items.train, items.evaluation) if p.source is source]
        numbers = sorted(number for each in parts for number in each.numbers)
        whole = parts[0].part(numbers)
        if source_of(whole) == part.tokens.source:
            chosen = [n for i, n in enumerate(numbers) if whole.id(i) in wanted]
            return whole.part(chosen)
    raise ValueError(
        f"the tokens {part.tokens.folder} are of other {kind.items} than the tokenizer's data are "
        "now: other files, files that changed, or other settings of data, such as data.size. Add "
        f"those settings as KEY=VALUE, or name {kind.items} that the prior has not seen as DATA"
    )
