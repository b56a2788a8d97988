"""What an experiment does, in four rooms: loading it, running it, operating it, showing it."""
