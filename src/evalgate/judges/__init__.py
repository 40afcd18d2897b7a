"""The judge edge: our own prompts, and the libraries that judge, each behind one door."""
