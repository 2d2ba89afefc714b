"""The training loop: optimizer, checkpoints, several devices, progress."""
