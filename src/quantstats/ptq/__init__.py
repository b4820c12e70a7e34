"""The driver of post-training quantization; it knows models only through an adapter."""
