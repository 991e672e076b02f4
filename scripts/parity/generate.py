#!/usr/bin/env python3
"""Makes the tiny checkpoint and the expected values of crates/distilbert/tests/distilbert.rs.

Needs torch 2.11 and transformers: `make setup` with --bench makes a virtual environment that has them. Run from the
repository's root:

    <venv>/bin/python scripts/parity/generate.py

The network's weights are random, but large enough that attention, norms and GELU all matter to the logits. What is
recorded is what `transformers` computes in fp32 on padded batches.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertTokenizerFast

FOLDER = Path("crates/distilbert/tests/data/tiny")
CASES = Path("crates/distilbert/tests/data/tiny-cases.json")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the a an and of to it this that is was film movie plot actor actors scene good bad great awful dull bright boring
funny sad not never very too story ending music first last one two three cafe naive resume straße garçon""".split()
PIECES = """##s ##ed ##ing ##er ##est ##ly ##ness ##ful ##less ##able ##ment ##tion""".split()
CJK = list("电影很好看不的了日本語中")

TEXTS = [
    ["This movie was great!", "Dull.", "A very boring story, and the ending was awful; not funny."],
    ["", "   ", "\t\n", "\u00a0\u200b", "."],
    ["Café naïve résumé — garçon", "STRASSE straße İstanbul", "电影很好看! 不好的电影", "日本語のfilm", "🎬🎭 great 👍🏽"],
    ["the [SEP] plot [MASK] was [CLS] good [PAD]", "[UNK] [sep] [ SEP ]", "e\u0301 = é; ﬁlm ½ ②"],
    ["a" * 99 + " good", "a" * 100, "a" * 101 + " good", "xyz" * 50],
    [" ".join(["the movie was good and"] * 120), "bad", " ".join(["actors"] * 509), " ".join(["actors"] * 255)],
    [" ".join(["film"] * 510), " ".join(["film"] * 511), " ".join(["film"] * 512)],
    ["nul\0 and \ufffd and \x07bell", "line\r\nbreaks\rhere", "don't can't... (really?) #1 @you $5 50% a_b"],
    ["the"] * 4,
]


def vocabulary() -> list[str]:
    characters = [chr(c) for c in range(0x21, 0x7F) if not chr(c).isupper()]
    letters = [chr(c) for c in range(0x61, 0x7B)] + [str(d) for d in range(10)]
    extra = ["A", "C", "É", "é", "ï", "ß", "İ", "½", "—", "##é", "##ï", "##ß", "This", "Caf"]
    tokens = SPECIAL + characters + [f"##{c}" for c in letters] + WORDS + PIECES + CJK + extra
    return list(dict.fromkeys(tokens))


def network(vocab_size: int) -> DistilBertForSequenceClassification:
    labels = ["negative", "neutral", "positive"]
    config = DistilBertConfig(
        vocab_size=vocab_size, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=512,
        id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}, num_labels=3,
    )
    torch.manual_seed(20240)
    model = DistilBertForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            norm = "norm" in name.lower()
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.normal_(0, 0.2)
                if norm and name.endswith("weight"):
                    parameter.add_(1)
    return model


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    tokens = vocabulary()
    (FOLDER / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    ids = {token: i for i, token in enumerate(tokens)}

    tokenizer = DistilBertTokenizerFast(vocab=ids, do_lower_case=True, model_max_length=512)
    cased = DistilBertTokenizerFast(vocab=ids, do_lower_case=False, model_max_length=512)
    model = network(len(tokens))
    model.save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)

    batches = []
    for texts in TEXTS:
        full = [len(i) for i in tokenizer(texts, verbose=False)["input_ids"]]
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        cased_ids = cased(texts, truncation=True)["input_ids"]
        batches.append([
            {
                "text": text,
                "ids": batch["input_ids"][i][batch["attention_mask"][i] == 1].tolist(),
                "cased_ids": cased_ids[i],
                "truncated": full[i] > 512,
                "logits": [float(f"{x:.9g}") for x in logits[i].tolist()],
            }
            for i, text in enumerate(texts)
        ])
    lines = ",\n".join("[\n" + ",\n".join(json.dumps(case) for case in batch) + "\n]" for batch in batches)
    CASES.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
