"""The models that ATRank is compared with, on the same batches, embeddings, time feature and training code."""

from atrank_lib.competitors.bpr_mf import BPRMF
from atrank_lib.competitors.bst import BST
from atrank_lib.competitors.cnn import CNN
from atrank_lib.competitors.din import DIN
from atrank_lib.competitors.lstm import BiLSTM, BiLSTMAttention
from atrank_lib.competitors.wide_deep import WideDeep

__all__ = ["BPRMF", "BST", "CNN", "DIN", "BiLSTM", "BiLSTMAttention", "WideDeep"]
