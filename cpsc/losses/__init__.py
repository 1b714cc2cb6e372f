"""One equation, one pure function: tensors in, unweighted unreduced term out ([B], or [] for batch statistics)."""
