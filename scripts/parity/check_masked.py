#!/usr/bin/env python3
"""Checks that a checkpoint of `understudy-trainer pretrain` loads in `transformers`, and asks it for masked words.

    <venv>/bin/python scripts/parity/check_masked.py <checkpoint> [<text with [MASK]> ...]

Fails where the checkpoint has tensors missing or to spare, or its projection is not the word embedding.
"""

import sys

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer


def main() -> None:
    folder, texts = sys.argv[1], sys.argv[2:] or ["one of the best [MASK] i have ever seen .", "the acting is [MASK] ."]
    model, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            sys.exit(f"{problem}: {report[problem]}")
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        sys.exit("the projection is not tied to the word embedding")
    for text in texts:
        batch = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0]
        for place in (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten().tolist():
            best = logits[place].topk(5)
            told = [f"{tokenizer.decode([i])} {v:.3f}" for i, v in zip(best.indices.tolist(), best.values.tolist())]
            print(f"{text}  [{place}]: {', '.join(told)}")


if __name__ == "__main__":
    main()
