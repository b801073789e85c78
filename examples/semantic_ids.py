"""Names items by their codes, and lets a prior recommend items that there are.

Run: python examples/semantic_ids.py
"""

import torch
from sklearn.datasets import load_digits

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.modalities.vector import IdentityConfig, VectorModelConfig
from vqkit.priors import TransformerConfig
from vqkit.quantizers import EMAConfig, ResidualConfig
from vqkit.tokens import SemanticIDs
from vqkit.training import TrainConfig, fit

digits, classes = load_digits(return_X_y=True)
items = torch.from_numpy(digits).float()  # 1,797 items of 64 numbers

# Three codes for each item, from coarse to fine: no network, so k-means is all of the training.
stages = ResidualConfig(quantizer=EMAConfig(codebook_size=16), stages=3)
network = IdentityConfig()
model = VQVAE.from_config(VectorModelConfig(columns=64, network=network, quantizer=stages))
fit(model, TensorExamples(list(items)), TrainConfig(steps=25, batch_size=256, progress="none"))
codes, sizes = model.encode(items).flat(), model.quantizers[0].codebook_sizes

# A suffix tells items of equal codes apart, and what comes later changes no ID.
names = [f"item {number}, a {label}" for number, label in enumerate(classes)]
first = SemanticIDs.of(names[:1000], codes[:1000], sizes)
ids = first.extended(SemanticIDs.of(names, codes, sizes))
print(f"{len(ids)} items, {ids.collision_rate:.0%} with codes of another")
print("IDs that stayed:", int((ids.ids[:1000] == first.ids).all(1).sum()))

# A prior learns which IDs are likely, and draws none but those of items.
valid = ids.as_codes()
prior = TransformerConfig(layers=2, width=64).build(valid.specs)
rows = TensorExamples(list(valid.flat()))
fit(prior, rows, TrainConfig(steps=200, batch_size=64, progress="none"))
free, kept = (prior.sample(200, seed=0, valid=some) for some in (None, valid))
print("of 200 free samples, IDs of items:", sum(name is not None for name in ids.name_of(free)))
print("of 200 valid samples:", sum(name is not None for name in ids.name_of(kept)))
print("such as:", ", ".join(str(name) for name in ids.name_of(kept)[:3]))
