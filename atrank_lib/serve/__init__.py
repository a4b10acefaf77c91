"""What a trained model is for: ranking, scoring pairs, a page in the browser, an ONNX graph."""
