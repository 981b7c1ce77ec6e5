//! Builds again when a migration is added: the macro that embeds them watches only the files that it found.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
}
