"""Text to tokens: tokenizers, chat templates, and which tokens are learnt from."""
