//! Where maps and links are pinned: a folder on the BPF file system.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

/// Mount point of the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";

/// The folder of pins is not usable.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The folder is elsewhere.
    #[error("{0} is not on a BPF file system: choose a folder under {BPFFS}")]
    NotBpffs(PathBuf),
    /// Mounting failed.
    #[error(
        "cannot mount the BPF file system on {BPFFS}: {0}; run as root, or mount it: mount -t bpf bpf {BPFFS}"
    )]
    Mount(nix::Error),
    /// A folder could not be made, listed or removed.
    #[error("{path}: {source}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// The folder of pins of one agent.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Uses `root`, making it (and mounting the file system) where needed.
    pub fn open(root: &Path) -> Result<Self, PinError> {
        let pins = Self { root: root.to_owned() };
        if root.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
                .map_err(PinError::Mount)?;
        }
        for folder in [pins.maps(), pins.links()] {
            fs::create_dir_all(&folder).map_err(|source| PinError::Io { path: folder.clone(), source })?;
        }
        if !is_bpffs(root) {
            return Err(PinError::NotBpffs(root.to_owned()));
        }
        Ok(pins)
    }

    /// Folder of the maps.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Folder of the links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Pin of a link. bpffs refuses names with a dot, which interface names may have.
    pub fn link(&self, name: &str) -> PathBuf {
        self.links().join(name.replace('.', "%2e"))
    }

    /// Names of all pinned links.
    pub fn link_names(&self) -> Result<Vec<String>, PinError> {
        let folder = self.links();
        let io = |source| PinError::Io { path: folder.clone(), source };
        let entries = fs::read_dir(&folder).map_err(io)?;
        entries
            .map(|entry| Ok(entry.map_err(io)?.file_name().to_string_lossy().replace("%2e", ".")))
            .collect()
    }

    /// The same for a folder that need not be there.
    pub fn links_in(root: &Path) -> Result<Vec<String>, PinError> {
        let pins = Self { root: root.to_owned() };
        if pins.links().exists() { pins.link_names() } else { Ok(Vec::new()) }
    }

    /// Removes all pinned links but these: their programs are detached.
    pub fn remove_links_but(&self, kept: &[String]) -> Result<(), PinError> {
        for name in self.link_names()?.iter().filter(|name| !kept.contains(name)) {
            let path = self.link(name);
            fs::remove_file(&path).map_err(|source| PinError::Io { path, source })?;
        }
        Ok(())
    }

    /// Removes every pin: links first, so that forwarding stops before maps go.
    pub fn remove_all(root: &Path) -> Result<bool, PinError> {
        let pins = Self { root: root.to_owned() };
        if !root.exists() {
            return Ok(false);
        }
        for folder in [pins.links(), pins.maps(), pins.root] {
            match fs::remove_dir_all(&folder) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(PinError::Io { path: folder, source });
                }
                _ => {}
            }
        }
        Ok(true)
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}
