"""What the page of the quantizers says must run."""

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "quantizers.md"


def test_every_snippet_of_the_page_runs_in_order():
    torch.manual_seed(0)
    names: dict[str, object] = {}
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) > 8
    for snippet in snippets:
        exec(snippet, names)
