"""The U-Net, its layers, what it is told, and a trained network on disk."""
