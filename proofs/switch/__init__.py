"""A release takes over under load: no failed search, no mixed answer, no lost document."""
