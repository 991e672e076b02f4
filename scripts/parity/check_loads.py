#!/usr/bin/env python3
"""Checks that a checkpoint which Understudy wrote loads in `transformers` and means the same there.

    <venv>/bin/python scripts/parity/check_loads.py <checkpoint> [<text> ...]

Needs torch and transformers, as generate.py does. Prints ids and probabilities for each text, to be compared with
`understudy classify`; fails where the checkpoint has tensors missing or to spare.
"""

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline


def main() -> None:
    folder, texts = sys.argv[1], sys.argv[2:] or ["A great film.", "Dull, and far too long."]
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[problem]:
            sys.exit(f"{problem}: {report[problem]}")
    print(type(model).__name__, type(tokenizer).__name__, model.config.id2label, "max", tokenizer.model_max_length)
    for text in texts:
        batch = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.no_grad():
            probabilities = model(**batch).logits.softmax(-1)[0].tolist()
        print(batch["input_ids"][0].tolist(), [round(p, 6) for p in probabilities])
    # The pipeline takes the labels and the tokeniser's input names from the checkpoint.
    print(pipeline("text-classification", model=folder)(texts))


if __name__ == "__main__":
    main()
