"""From any source of images to crops on disk."""
