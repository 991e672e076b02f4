"""The hand-made stack that Understudy replaces: one model behind a Python gRPC server that answers each request by
itself. It serves the same contract, so the same load generator drives it."""

import argparse
import os
import sys
from concurrent import futures
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--stubs", required=True, help="folder with the code generated from proto/")
parser.add_argument("--checkpoint", required=True, type=Path)
parser.add_argument("--engine", choices=["transformers", "onnxruntime"], required=True)
parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], required=True)
parser.add_argument("--threads", type=int, default=os.cpu_count())
arguments = parser.parse_args()
sys.path.insert(0, arguments.stubs)

import grpc  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
from transformers import AutoTokenizer, DistilBertForSequenceClassification  # noqa: E402
from understudy.v1 import analyst_pb2, analyst_pb2_grpc  # noqa: E402

LABELS = ["negative", "positive"]


def transformers_engine(folder: Path, precision: str):
    torch.set_num_threads(arguments.threads)
    model = DistilBertForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa").eval()
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    if precision == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    def logits(ids):
        with torch.inference_mode():
            return model(torch.tensor([ids])).logits[0].float().numpy()

    return logits


def onnxruntime_engine(folder: Path, precision: str):
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / "model.onnx"
    if not path.exists():
        model = DistilBertForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
        example = torch.ones(1, 16, dtype=torch.long)
        torch.onnx.export(
            model, (example, example), str(path), input_names=["input_ids", "attention_mask"], output_names=["logits"],
            dynamic_axes={"input_ids": {0: "b", 1: "l"}, "attention_mask": {0: "b", 1: "l"}}, dynamo=False,
        )
        del model
    if precision == "int8":
        quantized = folder / "model.int8.onnx"
        if not quantized.exists():
            quantize_dynamic(str(path), str(quantized), weight_type=QuantType.QInt8)
        path = quantized
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(ids):
        batch = numpy.array([ids], dtype=numpy.int64)
        return session.run(None, {"input_ids": batch, "attention_mask": numpy.ones_like(batch)})[0][0]

    return logits


class Analyst(analyst_pb2_grpc.AnalystServicer):
    def __init__(self):
        self.tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint, use_fast=True)
        engines = {"transformers": transformers_engine, "onnxruntime": onnxruntime_engine}
        self.logits = engines[arguments.engine](arguments.checkpoint, arguments.precision)

    def Classify(self, request, context):
        ids = self.tokenizer(request.text, truncation=True, max_length=512)["input_ids"]
        row = self.logits(ids)
        row = numpy.exp(row - row.max())
        row /= row.sum()
        best = int(row.argmax())
        probabilities = [
            analyst_pb2.ClassProbability(label=label, probability=float(p)) for label, p in zip(LABELS, row)
        ]
        return analyst_pb2.ClassifyResponse(classification=analyst_pb2.Classification(
            label=LABELS[best], confidence=float(row[best]), probabilities=probabilities, token_count=len(ids),
            version="peer",
        ))


# One request at a time in the engine, which uses every core: more workers only take turns.
server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
analyst_pb2_grpc.add_AnalystServicer_to_server(Analyst(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
