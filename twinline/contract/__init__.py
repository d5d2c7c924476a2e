"""The contract: everything that turns a document into vectors except the weights.

Pure code: numpy, tokenizers, a splitter library and the standard library. No network, no GPU, no environment variables. Its
rooms, from the ground up: documents, encoder, then release and monitor.
"""
