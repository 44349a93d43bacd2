"""Model bundles: one safetensors file with weights, preprocessing, legend and provenance."""
