"""The models that ATRank is compared with, on the same batches, embeddings, time feature and training code."""
