"""What a search does, stage by stage: trials without training, of one epoch, and of as many as there is time for."""
