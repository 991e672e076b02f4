"""The same training in Python: `transformers`' DistilBERT and PyTorch's fused AdamW in a bare loop, which is faster than
`transformers.Trainer`. Prints the seconds of each step after the warm-up."""

import argparse
import csv
import json
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, DistilBertForSequenceClassification

parser = argparse.ArgumentParser()
parser.add_argument("--checkpoint", required=True, type=Path)
parser.add_argument("--data", required=True, type=Path)
parser.add_argument("--precision", choices=["fp32", "bf16"], required=True)
parser.add_argument("--batch", required=True, type=int)
parser.add_argument("--warm-up", required=True, type=int, help="steps that are not measured")
parser.add_argument("--steps", required=True, type=int, help="steps that are measured")
parser.add_argument("--threads", required=True, type=int)
arguments = parser.parse_args()

torch.manual_seed(1)
torch.set_num_threads(arguments.threads)
tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
model = DistilBertForSequenceClassification.from_pretrained(arguments.checkpoint, attn_implementation="sdpa").train()
with arguments.data.open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
ids = tokenizer([row["review"] for row in rows])["input_ids"]
labels = [int(row["label"]) for row in rows]

parameters = list(model.parameters())
groups = [
    {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.01},
    {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
]
total = arguments.warm_up + arguments.steps
optimizer = torch.optim.AdamW(groups, lr=3e-5, fused=True)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total)

seconds = []
for step in range(total):
    begun = time.perf_counter()
    some = range(step * arguments.batch, (step + 1) * arguments.batch)
    batch = torch.tensor([ids[index] for index in some])
    with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
        loss = model(batch, torch.ones_like(batch), labels=torch.tensor([labels[index] for index in some])).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    loss.item()
    seconds.append(time.perf_counter() - begun)
print(json.dumps({"tokens": len(ids[0]), "seconds": seconds[arguments.warm_up:]}))
