"""Standard MIDI File bytes to note arrays and back."""
