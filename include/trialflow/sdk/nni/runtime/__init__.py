"""Where NNI 2.x and 3.0 have what an advisor needs."""
