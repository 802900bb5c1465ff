//! links.
mod domain;
