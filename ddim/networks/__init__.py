"""The U-Net, its layers, and a trained network on disk."""
