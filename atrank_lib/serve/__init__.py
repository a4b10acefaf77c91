"""What a trained model is for: ranking, scoring pairs, a page in the browser, an ONNX graph."""

from atrank_lib.serve.browser import browser_document, document_text, examples_of, some_samples
from atrank_lib.serve.onnx_graph import export_onnx
from atrank_lib.serve.pairs import Pairs, read_pairs
from atrank_lib.serve.ranker import Ranker

__all__ = [
    "Pairs",
    "Ranker",
    "browser_document",
    "document_text",
    "examples_of",
    "export_onnx",
    "read_pairs",
    "some_samples",
]
