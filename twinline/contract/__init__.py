"""The contract: everything except the weights that turns a document into vectors, and a question into an answer.

Pure code: numpy, tokenizers, a splitter library and the standard library. No network, no GPU, no environment variables. Its
rooms, bottom to top: documents, encoder, then sparse and answers, then release and monitor.
"""
