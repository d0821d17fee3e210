//! Greets whoever it is told to, as its environment wants them greeted.
//!
//! ```sh
//! cosmos run greeting.wasm Ada Grace
//! cosmos run --env GREETING=Moin greeting.wasm Ada
//! ```

fn main() {
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "Hello".to_owned());
    let mut names: Vec<_> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names.push("world".to_owned());
    }
    for name in names {
        println!("{greeting}, {name}!");
    }
}
