"""What a person sees: figures, charts, pictures, progress."""
