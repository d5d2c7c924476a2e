"""The contract: everything that turns a document into vectors except the weights.

Pure code: numpy, tokenizers, a splitter library and the standard library. No network, no GPU, no environment. Both lines import
it, training and serving, so that there is one implementation to agree with. Start reading at `preprocess.py`.
"""
