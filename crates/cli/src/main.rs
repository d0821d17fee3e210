//! Made in the next commits.
fn main() {}
