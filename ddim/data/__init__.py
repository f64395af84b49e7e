"""Images from any source to uint8 crops, and the crops' mean and variance."""
