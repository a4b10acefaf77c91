"""What a trained model is for: ranking, scoring pairs, an ONNX graph."""

from atrank_lib.serve.onnx_graph import export_onnx
from atrank_lib.serve.pairs import read_pairs, read_shown
from atrank_lib.serve.ranker import Ranker

__all__ = ["Ranker", "export_onnx", "read_pairs", "read_shown"]
