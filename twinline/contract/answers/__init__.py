"""The prompt contract: everything but the weights that turns a question, a history and passages into ids, and ids into an answer."""
