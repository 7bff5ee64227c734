//! Puts the compiled kernel programs where the agent can embed them: `OUT_DIR/lbx-ebpf.o`.
//!
//! The object is what `cargo xtask bpf` built in this checkout, or the file named by `LBX_EBPF_OBJECT`. Without
//! one an empty file takes its place, so that `cargo clippy` and the unit tests need no BPF tools; the agent says
//! so when it is then asked to load it. Never compiles anything itself.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

const OVERRIDE: &str = "LBX_EBPF_OBJECT";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let named = env::var_os(OVERRIDE).map(PathBuf::from);
    let object = match &named {
        Some(file) => file.clone(),
        None => {
            Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../target/bpfel-unknown-none/release/lbx-ebpf")
        }
    };
    let bytes = match fs::read(&object) {
        Ok(bytes) => bytes,
        Err(error) if named.is_some() => {
            return Err(
                format!("{OVERRIDE} names {}, which cannot be read: {error}", object.display()).into()
            );
        }
        Err(_) => Vec::new(),
    };
    // Cargo takes a missing file for a changed one: without an object the agent is built anew each time, and the
    // first object to appear is noticed.
    println!("cargo::rerun-if-changed={}", object.display());
    fs::write(Path::new(&env::var("OUT_DIR")?).join("lbx-ebpf.o"), bytes)?;
    Ok(())
}
