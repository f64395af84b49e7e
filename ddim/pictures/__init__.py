"""Sheets, animations and plots of what a trained model draws."""
