"""GGUF files: their header, their tensors, and what they are called in a Hugging Face directory."""
