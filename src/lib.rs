//! Placeholder while the seam is being written.
