#!/usr/bin/env python3
"""Makes an adapter of the tiny checkpoint with PEFT, and what PEFT computes with it, for crates/distilbert/tests/lora.rs.

Needs peft beside what generate.py needs. Run from the repository's root:

    <venv>/bin/python scripts/parity/generate_adapter.py
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification

BASE = Path("crates/distilbert/tests/data/tiny")
ADAPTER = Path("crates/distilbert/tests/data/tiny-adapter")
IDS = [[2, 40, 41, 150, 160, 3], [2, 99, 3], [2, *range(100, 140), 3]]


def main() -> None:
    shutil.rmtree(ADAPTER, ignore_errors=True)
    model = AutoModelForSequenceClassification.from_pretrained(BASE)
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=4, lora_alpha=16, lora_dropout=0.1,
        target_modules=["q_lin", "v_lin", "lin1", "word_embeddings"],
    )
    model = get_peft_model(model, lora).eval()
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(0, 0.2)
        logits = [model(input_ids=torch.tensor([ids])).logits[0].tolist() for ids in IDS]
    model.save_pretrained(ADAPTER)
    (ADAPTER / "README.md").unlink()
    cases = [{"ids": ids, "logits": [float(f"{x:.9g}") for x in row]} for ids, row in zip(IDS, logits)]
    (ADAPTER / "cases.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
