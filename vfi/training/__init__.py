"""Training the network from any folder of videos."""
