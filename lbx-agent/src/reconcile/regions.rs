//! Which list of regions counts, and what became of the file when it was read last.

use std::time::Duration;

use lbx_common::{
    abi::region_id,
    api::{Config, Mistake, RegionPrefixes, RegionsStatus},
};

use super::{Reconciler, now_ns};
use crate::{
    config::model::Model,
    control::RefusedError,
    plan::regions_change_is_open,
    regions::{LoadFailed, Loaded, Regions},
};

/// The list that counts.
pub struct InForce {
    reader: Regions,
    /// Id of the list; 0 = there is none.
    id: u32,
    /// The list, where this agent has read it.
    pub loaded: Option<Loaded>,
    /// Why the file does not count as it is now.
    pub mistake: Option<String>,
    /// Lists that were kept last.
    kept: [u32; 2],
}

impl InForce {
    /// Nothing yet.
    pub const fn new(reader: Regions) -> Self {
        Self { reader, id: 0, loaded: None, mistake: None, kept: [0; 2] }
    }

    /// Id of the list; 0 = there is none.
    pub const fn list_id(&self) -> u32 {
        self.id
    }

    /// Has the file read again.
    pub fn read_again(&self) {
        self.reader.read_again();
    }
}

impl Reconciler {
    /// Reads the file at the start. One that does not count leaves the list of the agent before in force, if there was
    /// one: clients do not move because of it.
    pub(super) async fn begin_with_regions(&mut self) {
        let path = self.model.config.node.regions_path();
        let before = match &self.kernel.before {
            Some(before) => before.image().node.regions,
            None => crate::dataplane::Image::observe(&self.kernel.memory).node.regions,
        };
        self.regions.id = if path.is_some() { before } else { 0 };
        match self.regions.reader.load(path).await {
            Ok(loaded) => self.put_regions(loaded),
            Err(failed) => {
                tracing::error!("the file of regions does not count: {failed}");
                self.regions.mistake = Some(failed.to_string());
            }
        }
    }

    /// Takes what was read because the file has changed. Returns whether another list counts now.
    pub(super) fn take_regions(&mut self, read: Result<Loaded, LoadFailed>) -> bool {
        let before = self.regions.id;
        match read {
            // Of a file that is another one by now.
            Ok(loaded) if self.model.config.node.regions_path().as_ref() != Some(&loaded.path) => {}
            Ok(loaded) => self.put_regions(Some(loaded)),
            Err(failed) => {
                tracing::error!("the list of regions before stays in force: {failed}");
                self.regions.mistake = Some(failed.to_string());
            }
        }
        self.regions.id != before
    }

    fn put_regions(&mut self, loaded: Option<Loaded>) {
        let id = loaded.as_ref().map_or(0, |loaded| loaded.list.id());
        if let Some(loaded) = &loaded
            && id != self.regions.id
        {
            let prefixes = loaded.list.entries().len();
            tracing::info!(file = %loaded.path.display(), prefixes, "list of regions read");
        }
        (self.regions.id, self.regions.loaded, self.regions.mistake) = (id, loaded, None);
        self.say_which_regions_are_empty();
    }

    /// A region of which the file has no prefix is a slip of the pen, or will have some soon.
    fn say_which_regions_are_empty(&self) {
        let Some(loaded) = &self.regions.loaded else { return };
        let empty = empty_regions(&self.model, loaded);
        if !empty.is_empty() {
            let file = loaded.path.display();
            tracing::warn!("{file} has no prefix of {}: nobody is there", empty.join(", "));
        }
    }

    /// Reads the file that a new configuration names, where it is another one. A file that cannot count refuses the
    /// configuration.
    pub(super) async fn read_regions_of(&self, config: &Config) -> Result<NewRegions, RefusedError> {
        let path = config.node.regions_path();
        if path == self.model.config.node.regions_path() {
            return Ok(NewRegions::Same);
        }
        match self.regions.reader.load(path).await {
            Ok(loaded) => Ok(NewRegions::Other(loaded)),
            Err(failed) => {
                self.watch_regions_again().await;
                Err(RefusedError::Invalid(mistakes(failed)))
            }
        }
    }

    /// After a configuration that named another file did not come into force.
    pub(super) async fn watch_regions_again(&self) {
        // What it says is in force.
        let _known = self.regions.reader.load(self.model.config.node.regions_path()).await;
    }

    /// What a new configuration named comes into force with it.
    pub(super) fn take_new_regions(&mut self, new: NewRegions) {
        if let NewRegions::Other(loaded) = new {
            self.put_regions(loaded);
        } else {
            self.say_which_regions_are_empty();
        }
    }

    /// What `lbx-ctl status` shows.
    pub(super) fn regions_status(&self) -> Option<RegionsStatus> {
        let file = self.model.config.node.regions_file.as_ref()?;
        let loaded = self.regions.loaded.as_ref();
        let prefixes_of = |name: &str| {
            let known = loaded.and_then(|loaded| loaded.list.regions().get(&region_id(name.as_bytes())));
            known.map_or(0, |&(_, prefixes)| prefixes as u64)
        };
        let node = &self.image.node;
        let left_ns = node.regions_deadline_ns.saturating_sub(now_ns());
        let regions = self.model.config.regions.iter();
        Some(RegionsStatus {
            file: file.clone(),
            prefixes: loaded.map_or(0, |loaded| loaded.list.entries().len() as u64),
            read_secs_ago: loaded.and_then(|loaded| Some(loaded.read_at.elapsed().ok()?.as_secs())),
            mistake: self.regions.mistake.clone(),
            closes_in_secs: regions_change_is_open(node).then(|| Duration::from_nanos(left_ns).as_secs()),
            regions: regions
                .map(|one| RegionPrefixes { region: one.name.clone(), prefixes: prefixes_of(&one.name) })
                .collect(),
        })
    }

    /// Has lists removed that no packet is looked up in any more.
    pub(super) async fn keep_regions(&mut self) {
        let node = &self.image.node;
        let needed = [node.regions, node.regions_before];
        if self.retry.is_none() && needed != self.regions.kept {
            self.regions.kept = needed;
            self.regions.reader.keep(needed).await;
        }
    }
}

/// The regions of a new configuration.
pub enum NewRegions {
    /// The file is the same.
    Same,
    /// Another file, or none, says this.
    Other(Option<Loaded>),
}

impl NewRegions {
    /// Id of the list, where that in force is `now`.
    pub fn list_id(&self, now: u32) -> u32 {
        match self {
            Self::Same => now,
            Self::Other(loaded) => loaded.as_ref().map_or(0, |loaded| loaded.list.id()),
        }
    }
}

/// Names of configured regions that no prefix of a file is in.
pub fn empty_regions(model: &Model, loaded: &Loaded) -> Vec<String> {
    let names = model.config.regions.iter().map(|region| region.name.clone());
    names.filter(|name| !loaded.list.regions().contains_key(&region_id(name.as_bytes()))).collect()
}

/// Checks the file of a configuration that is only looked at.
pub fn check_file(config: &Config, in_force: &Config) -> Result<(), RefusedError> {
    let Some(path) =
        config.node.regions_path().filter(|_| config.node.regions_file != in_force.node.regions_file)
    else {
        return Ok(());
    };
    crate::regions::read(&path).map(drop).map_err(|failed| RefusedError::Invalid(mistakes(failed)))
}

fn mistakes(failed: LoadFailed) -> Vec<Mistake> {
    let at = |message| Mistake::new("node.regions_file", message);
    match failed {
        LoadFailed::Invalid(path, mistakes) => {
            let file = path.display().to_string();
            mistakes.iter().map(|mistake| at(mistake.in_file(&file))).collect()
        }
        LoadFailed::Other(message) => vec![at(message)],
    }
}
