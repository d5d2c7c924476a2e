"""Words as a contract: text to weighted terms, the corpus statistics behind the weights, and the fusion of two lists into one."""
