"""What a trained model is for: ranking, scoring pairs, a page in the browser, an ONNX graph."""

from atrank_lib.serve.browser import browser_document
from atrank_lib.serve.onnx_graph import export_onnx
from atrank_lib.serve.pairs import read_pairs
from atrank_lib.serve.ranker import Ranker

__all__ = ["Ranker", "browser_document", "export_onnx", "read_pairs"]
