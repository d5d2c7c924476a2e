"""One module per sub-command, loaded only when it runs.

A module offers one of two names: `command`, a function, for `twinline NAME ...`, or `app`, a `typer.Typer`, for
`twinline NAME VERB ...`. Its name and one-line help stand in the table of `twinline/__main__.py`.
"""
