"""Training an autoencoder for latent diffusion, and encoding the crops with it."""
