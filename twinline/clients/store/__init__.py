"""The vector store: its protocol, its two adapters, and the door that compares a collection with its release."""
