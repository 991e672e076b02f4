#!/usr/bin/env python3
"""Makes the tiny masked-language model and the expected values of crates/distilbert/tests/masked.rs.

As generate.py, whose vocabulary it takes, and run in the same way after it:

    <venv>/bin/python scripts/parity/generate_masked.py
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import DistilBertConfig, DistilBertForMaskedLM, DistilBertTokenizerFast

TINY = Path("crates/distilbert/tests/data/tiny")
FOLDER = Path("crates/distilbert/tests/data/tiny-masked")
TEXTS = ["the movie was [MASK] and the plot [MASK]", "[MASK]", "not very funny , but [MASK] sad"]


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    tokenizer = DistilBertTokenizerFast(tokenizer_file=str(TINY / "tokenizer.json"))
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=32
    )
    torch.manual_seed(3)
    model = DistilBertForMaskedLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.3)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1)
    model.save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    ids = batch["input_ids"]
    places = (ids.flatten() == tokenizer.mask_token_id).nonzero().flatten()
    expected = logits.view(-1, logits.size(-1))[places, :12]
    (FOLDER / "cases.json").write_text(json.dumps({
        "ids": ids.tolist(),
        "mask": batch["attention_mask"].tolist(),
        "places": places.tolist(),
        "logits": [[float(f"{x:.9g}") for x in row] for row in expected.tolist()],
    }) + "\n")


if __name__ == "__main__":
    main()
