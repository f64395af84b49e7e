"""The mathematics of diffusion: schedules, noise levels, steps and samplers."""
