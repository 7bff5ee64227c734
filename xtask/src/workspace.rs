//! Where things are: the root of the workspace and the places build results go to.
//!
//! Only answers questions about paths; it never creates or changes a file.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;
use cargo_metadata::semver::Version;

/// The kernel programs' compile target.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// The checked-out workspace.
pub struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub root: PathBuf,
    /// Where cargo puts what it builds for the host; `CARGO_TARGET_DIR` moves it.
    pub host_target: PathBuf,
    /// The oldest compiler that compiles the workspace.
    pub rust_version: Version,
}

impl Workspace {
    /// Asks cargo, so that the answer is the same from any folder of the workspace.
    pub fn find() -> Result<Self> {
        let mut command = MetadataCommand::new();
        command.no_deps();
        if let Some(manifest_dir) = env::var_os("CARGO_MANIFEST_DIR") {
            command.current_dir(manifest_dir);
        }
        let metadata = command.exec().context("cargo metadata could not read the workspace")?;
        let rust_version = metadata.packages.iter().filter_map(|package| package.rust_version.clone()).max();
        Ok(Self {
            root: metadata.workspace_root.into_std_path_buf(),
            host_target: metadata.target_directory.into_std_path_buf(),
            rust_version: rust_version.context("no crate of the workspace names its rust-version")?,
        })
    }

    /// Where the kernel programs are built. Always inside this checkout, even when `CARGO_TARGET_DIR` is shared
    /// between checkouts: the agent's build script embeds the object from here, and it must be this checkout's.
    pub fn bpf_target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Tools that `setup` installs for this checkout only.
    pub fn tools(&self) -> PathBuf {
        self.root.join("target").join("tools")
    }

    /// A program that cargo built for the host.
    pub fn host_binary(&self, name: &str, release: bool) -> PathBuf {
        self.host_target.join(if release { "release" } else { "debug" }).join(name)
    }
}
