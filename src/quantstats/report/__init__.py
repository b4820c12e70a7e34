"""What a person looks at: how close, how small and how fast the quantized model is."""
