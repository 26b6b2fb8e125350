//! The driver: C entry points, and the books.

pub mod library;
