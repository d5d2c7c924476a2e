"""README's two commands in one clone, in both orders: neither spoils the other."""
