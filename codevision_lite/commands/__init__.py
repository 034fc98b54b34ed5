"""The verbs of the command line, by what they are for: each module adds its verbs to the parser and runs them."""
