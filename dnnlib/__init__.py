"""Things that know nothing of diffusion: files, downloads, command-line errors."""
