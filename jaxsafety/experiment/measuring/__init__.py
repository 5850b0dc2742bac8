"""`jaxsafety eval`: a model measured on sets by judges, without a training config."""
