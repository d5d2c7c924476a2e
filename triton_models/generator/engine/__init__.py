"""The engine of the generator: ids in, ids and log-probabilities out. `engine.py` shows the whole flow."""
