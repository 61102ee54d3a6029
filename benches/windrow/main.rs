//! Benchmarks of the parts that decide the speed of the whole.

fn main() {}
