"""Kafka: connections, options, a stretch of a topic, and the topic of erasures."""
