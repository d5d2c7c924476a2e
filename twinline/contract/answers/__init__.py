"""The prompt contract: all that turns a question, a history and passages into ids, and ids into an answer, but the weights."""
