"""KID, FID and more of a trained model over samplers and numbers of steps."""
