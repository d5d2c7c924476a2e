"""Fine-tune an encoder and measure it. With export/, the only package that imports torch."""
