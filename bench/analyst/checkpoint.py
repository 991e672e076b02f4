"""Writes a DistilBERT-base checkpoint with random weights and a vocabulary of one-token words, so that a text of n
words has exactly n + 2 tokens. Speed does not depend on what the weights are."""

import sys
from pathlib import Path

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

VOCABULARY = 30_522
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word(index: int) -> str:
    """The word of a token id; letters only, so that the tokenizer does not split it."""
    letters = ""
    while True:
        letters = chr(ord("a") + index % 26) + letters
        index //= 26
        if index == 0:
            return "w" + letters


def write(folder: Path, vocabulary: int = VOCABULARY, **shape: int) -> None:
    """Of the base shape, or of another that is given in the names of `DistilBertConfig`."""
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=vocabulary, id2label={0: "negative", 1: "positive"}, **shape)
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    words = SPECIAL + [word(index) for index in range(vocabulary - len(SPECIAL))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
