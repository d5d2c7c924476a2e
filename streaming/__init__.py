"""Kafka to index: decode, chunk, embed, write; commit last."""
