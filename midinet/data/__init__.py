"""A folder of MIDI files to a data set, and a data set to training batches."""
