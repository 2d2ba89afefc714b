"""Note arrays to tokens and back: the 517-token vocabulary."""
