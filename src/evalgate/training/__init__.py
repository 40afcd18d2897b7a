"""Training: what a configuration may say, the data, and the trainer in its child process."""
