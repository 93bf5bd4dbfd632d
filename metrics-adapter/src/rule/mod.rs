//! From a matched attribute to a family and its labels, pure.
