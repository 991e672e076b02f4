#!/usr/bin/env python3
"""Checks that an adapter which `understudy-trainer train --lora` wrote loads in PEFT and means the same there.

    <venv>/bin/python scripts/parity/check_adapter.py <base checkpoint> <run>

`<run>` holds the merged checkpoint and, in `adapter/`, the adapter. Needs torch, transformers and peft. Compares the logits of base and
adapter in PEFT with those of the merged checkpoint in transformers, and fails where they differ by more than 1e-5.
"""

import sys
import warnings

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TEXTS = ["A great film.", "Dull, and far too long.", "I wanted to like it, but nothing in the story makes any sense. " * 8]


def main() -> None:
    base, run = sys.argv[1:]
    # PEFT only warns where a tensor of the adapter is missing.
    warnings.filterwarnings("error", message="Found missing adapter keys")
    merged = AutoModelForSequenceClassification.from_pretrained(run).eval()
    tokenizer = AutoTokenizer.from_pretrained(run)
    labels = merged.config.id2label
    # A base stored in fp16 computes in fp16 unless told otherwise.
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, f"{run}/adapter").eval()
    most = 0.0
    for text in TEXTS:
        batch = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.no_grad():
            most = max(most, (adapted(**batch).logits - merged(**batch).logits).abs().max().item())
    adapted.print_trainable_parameters()
    print(f"{len(TEXTS)} texts, {labels}: the logits differ by at most {most:.1e}")
    if most > 1e-5:
        sys.exit("the adapter means something else in PEFT")


if __name__ == "__main__":
    main()
