"""A language model of tokens: a small Transformer learns a memory map that vqkit export wrote.

    vqkit export tokens/photos photos.memmap
    python examples/language_model.py photos.memmap

What is learned is how likely items are: p(item) is the product of p(token | tokens before it).
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch import nn

folder = Path(sys.argv[1])
header = json.loads((folder / "header.json").read_text())
kind = getattr(torch, header["dtype"])
tokens = torch.from_file(str(folder / "tokens.bin"), size=header["num_tokens"], dtype=kind)
SIZE, STEPS, BATCH, WIDTH = header["vocabulary_size"], 300, 16, 64
LENGTH = min(max(header["lengths"]), 256)  # of a window: an item, if that is not too long


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(SIZE, WIDTH), nn.Embedding(LENGTH, WIDTH)
        block = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, 0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, SIZE)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits of the token after each. (B, L) -> (B, L, vocabulary)"""
        length = ids.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        h = self.embed(ids) + self.places(torch.arange(length))
        return self.head(self.blocks(h, mask=mask, is_causal=True))


torch.manual_seed(0)
model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
losses = []
for _ in range(STEPS):  # windows from anywhere, as language models read one long text
    starts = torch.randint(len(tokens) - LENGTH, (BATCH, 1))
    window = tokens[starts + torch.arange(LENGTH + 1)].long()
    loss = nn.functional.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
learned = sum(losses[-50:]) / 50
print(f"nats per token: {learned:.3f}, before learning {losses[0]:.3f}, even {math.log(SIZE):.3f}")
