"""The first hour of a stranger, on machines that are not like ours."""
