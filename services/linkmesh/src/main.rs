//! linkmesh.
fn main() {}
