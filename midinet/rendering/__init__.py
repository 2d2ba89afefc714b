"""Music to look at and to listen to: piano rolls, learning curves, audio."""
