//! Where maps and links are pinned: a folder on the BPF file system.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::link;

/// Mount point of the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";
const MAPS: &str = "maps";
/// Maps that are filled while others are in use.
const MAPS_BESIDE: &str = "maps-beside";
/// Maps that others have just taken the place of.
const MAPS_BEFORE: &str = "maps-before";
const LINKS: &str = "links";

/// The folder of pins is not usable.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The folder is elsewhere.
    #[error("{0} is not on a BPF file system: choose a folder of its own under {BPFFS}")]
    NotBpffs(PathBuf),
    /// Mounting failed.
    #[error(
        "cannot mount the BPF file system on {BPFFS}: {0}; run as root, or mount it: mount -t bpf bpf {BPFFS}"
    )]
    Mount(nix::Error),
    /// Another agent works with the folder.
    #[error("another lbx-agent works with {0}: stop that one first, or choose another folder with --bpffs")]
    InUse(PathBuf),
    /// A folder could not be made, listed or removed.
    #[error("{path}: {source}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// The folder of pins of one agent, which it has for itself as long as this lives.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
    /// Name of the folder of maps.
    maps: &'static str,
    _lock: Arc<Flock<File>>,
}

impl Pins {
    /// How names of tables of stage programs begin.
    pub const STAGES_PREFIX: &str = "STAGES-";

    /// Uses `root`, making it (and mounting the file system) where needed.
    pub fn open(root: &Path) -> Result<Self, PinError> {
        if root.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
                .map_err(PinError::Mount)?;
        }
        // Before anything is made: a mistyped folder stays as it is.
        let there = root.ancestors().find(|folder| folder.exists()).unwrap_or(root);
        if !is_bpffs(there) || root == Path::new(BPFFS) {
            return Err(PinError::NotBpffs(root.to_owned()));
        }
        fs::create_dir_all(root).map_err(io_error(root))?;
        let pins = Self { root: root.to_owned(), maps: MAPS, _lock: Arc::new(lock(root)?) };
        // An agent was cut off when its maps took the place of others: both folders have a name that is not theirs.
        if !pins.maps().exists() && root.join(MAPS_BESIDE).exists() {
            rename(root, MAPS_BESIDE, MAPS)?;
        }
        for folder in [MAPS_BESIDE, MAPS_BEFORE] {
            remove_folder(&root.join(folder))?;
        }
        for folder in [pins.maps(), pins.links()] {
            fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        }
        Ok(pins)
    }

    /// The same, with a folder for maps beside those in use.
    pub fn beside(&self) -> Result<Self, PinError> {
        let pins = Self { maps: MAPS_BESIDE, ..self.clone() };
        let folder = pins.maps();
        fs::create_dir(&folder).map_err(io_error(&folder))?;
        Ok(pins)
    }

    /// Maps beside those in use take their place: all programs use them now.
    pub fn settle(&mut self) -> Result<(), PinError> {
        if self.maps == MAPS_BESIDE {
            rename(&self.root, MAPS, MAPS_BEFORE)?;
            rename(&self.root, MAPS_BESIDE, MAPS)?;
            self.maps = MAPS;
            remove_folder(&self.root.join(MAPS_BEFORE))?;
        }
        Ok(())
    }

    /// Folder of the maps.
    fn maps(&self) -> PathBuf {
        self.root.join(self.maps)
    }

    /// Folder of the links.
    fn links(&self) -> PathBuf {
        self.root.join(LINKS)
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
        Self::links_in(&self.root)
    }

    /// Names of the links pinned in a folder that need not be there.
    pub fn links_in(root: &Path) -> Result<Vec<String>, PinError> {
        Ok(files(&root.join(LINKS))?.into_iter().map(|name| name.replace("%2e", ".")).collect())
    }

    /// Removes all pinned links but these: their programs are detached.
    pub fn remove_links_but(&self, kept: &[String]) -> Result<(), PinError> {
        self.link_names()?
            .iter()
            .filter(|name| !kept.contains(name))
            .try_for_each(|name| self.remove_link(name))
    }

    /// Removes the pin of a map, if there is one.
    pub fn forget_map(&self, name: &str) {
        // Fails where there is none.
        let _none = fs::remove_file(self.map(name));
    }

    /// Removes the tables of stage programs but this one: nothing attached may use them.
    pub fn forget_other_stages(&self, current: &str) -> Result<(), PinError> {
        let stages = files(&self.maps())?.into_iter().filter(|name| name.starts_with(Self::STAGES_PREFIX));
        stages.filter(|name| name != current).for_each(|name| self.forget_map(&name));
        Ok(())
    }

    /// Detaches and unpins a link.
    pub fn remove_link(&self, name: &str) -> Result<(), PinError> {
        let path = self.link(name);
        if let Err(error) = link::detach(&path) {
            tracing::debug!(link = name, %error, "not detached at once");
        }
        fs::remove_file(&path).map_err(io_error(&path))
    }

    /// Removes every pin: links first, so that forwarding stops before maps go. Touches nothing that an agent
    /// has not made. Returns whether there was anything.
    pub fn remove_all(root: &Path) -> Result<bool, PinError> {
        if !root.exists() {
            return Ok(false);
        }
        if !is_bpffs(root) {
            return Err(PinError::NotBpffs(root.to_owned()));
        }
        let pins = Self { root: root.to_owned(), maps: MAPS, _lock: Arc::new(lock(root)?) };
        pins.remove_links_but(&[])?;
        for folder in [MAPS, MAPS_BESIDE, MAPS_BEFORE] {
            remove_folder(&root.join(folder))?;
        }
        for folder in [pins.links(), pins.root.clone()] {
            remove_empty(&folder)?;
        }
        Ok(true)
    }
}

/// The folder, for this process alone.
fn lock(root: &Path) -> Result<Flock<File>, PinError> {
    let folder = File::open(root).map_err(io_error(root))?;
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        if errno == Errno::EWOULDBLOCK {
            PinError::InUse(root.to_owned())
        } else {
            io_error(root)(errno.into())
        }
    })
}

/// Names of the files in a folder; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<String>, PinError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error(folder))?,
    };
    entries
        .map(|entry| Ok(entry.map_err(io_error(folder))?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn rename(root: &Path, from: &str, to: &str) -> Result<(), PinError> {
    let (from, to) = (root.join(from), root.join(to));
    fs::rename(&from, to).map_err(io_error(&from))
}

/// Removes a folder of maps, where there is one.
fn remove_folder(folder: &Path) -> Result<(), PinError> {
    for name in files(folder)? {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(io_error(&path))?;
    }
    remove_empty(folder)
}

/// Removes a folder. One that is not there, or that holds what is not ours, is no error.
fn remove_empty(folder: &Path) -> Result<(), PinError> {
    let Err(error) = fs::remove_dir(folder) else { return Ok(()) };
    // bpffs says EPERM of a folder that is not empty (`simple_rmdir` is not what it has).
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTEMPTY | libc::EPERM) => Ok(()),
        _ => Err(io_error(folder)(error)),
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError::Io { path: path.clone(), source }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_elsewhere_is_refused_and_nothing_in_it_is_touched() {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir(elsewhere.path().join("links")).unwrap();
        fs::write(elsewhere.path().join("links/precious"), "x").unwrap();
        for root in [elsewhere.path().to_owned(), elsewhere.path().join("below/it")] {
            let error = Pins::open(&root).unwrap_err().to_string();
            assert!(error.contains("not on a BPF file system"), "{error}");
            assert!(matches!(Pins::remove_all(&root), Err(PinError::NotBpffs(_)) | Ok(false)));
        }
        assert!(elsewhere.path().join("links/precious").exists());
        assert!(!elsewhere.path().join("below").exists());
        assert!(!elsewhere.path().join("maps").exists());
    }

    #[test]
    fn a_folder_belongs_to_one_agent_and_is_removed_with_what_is_its_own() {
        let root = Path::new(BPFFS).join(format!("lbx-pins-{:x}", std::process::id()));
        let pins = Pins::open(&root).unwrap();
        assert!(matches!(Pins::open(&root), Err(PinError::InUse(_))));
        assert!(matches!(Pins::remove_all(&root), Err(PinError::InUse(_))));
        drop(pins);
        fs::create_dir(root.join("of-somebody-else")).unwrap();
        assert!(Pins::remove_all(&root).unwrap());
        assert!(root.join("of-somebody-else").exists() && !root.join("links").exists());
        fs::remove_dir(root.join("of-somebody-else")).unwrap();
        assert!(Pins::remove_all(&root).unwrap());
        assert!(!root.exists() && !Pins::remove_all(&root).unwrap());
    }

    #[test]
    fn the_file_system_itself_is_no_folder_of_pins() {
        assert!(matches!(Pins::open(Path::new(BPFFS)), Err(PinError::NotBpffs(_))));
    }
}
