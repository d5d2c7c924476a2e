"""Triton: transport, embedder, control of models, and the fleet of servers."""
