//! load.
fn main() {}
