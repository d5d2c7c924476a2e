"""Apache Kafka, and the clients that other people use, against the consumer."""
