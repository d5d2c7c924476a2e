"""What a user would compare us with, each in a process of its own."""
