"""Networks that keep the model contract: raw gray pixels in, P(PNEUMONIA) out."""
