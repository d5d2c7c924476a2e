"""What `twinline demo` is made of: the chain of DAG runs, how it is shown, and a document that did not exist before."""
