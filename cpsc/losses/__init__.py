"""Loss terms, one pure function per equation: tensors in, unweighted and unreduced term out ([B], or [] for batch statistics)."""
