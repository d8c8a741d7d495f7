//! coracle-image.
