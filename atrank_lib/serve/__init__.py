"""What a trained model is for: ranking, scoring pairs, a page in the browser, an ONNX graph."""

from atrank_lib.serve.browser import browser_document, document_text, examples_of, exportable, some_samples
from atrank_lib.serve.full_ranking import ndcg_at, recall_at, score_all
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
    "exportable",
    "ndcg_at",
    "read_pairs",
    "recall_at",
    "score_all",
    "some_samples",
]
