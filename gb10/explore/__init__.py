"""What a notebook shows: figures with alt text, and small explorers (compute apart from view)."""
