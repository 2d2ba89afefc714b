"""The Keras decoder with relative attention, and its parameters."""
