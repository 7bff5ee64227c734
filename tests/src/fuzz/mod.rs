//! What must hold for whatever arrives: frames on each kind of interface, texts of configurations, messages of
//! routers.
//!
//! Each target takes any bytes and panics where something is wrong. `lbx-common/fuzz` searches for such bytes;
//! what it has found worth keeping is the corpus, which the tests run as well.

mod config;
mod conversation;
mod router;
mod sound;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::lab::{HostPipeline, On};

/// A frame shorter than that is none that a NIC would hand on.
const MIN_FRAME: usize = 14;
/// What the kernel takes for a test run.
const MAX_FRAME: usize = 2048;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A frame on an interface with role `public`.
    Public,
    /// A frame on one with role `underlay`.
    Underlay,
    /// A health check.
    Probe,
    /// Frames one after the other on an interface with both roles, for what is remembered from one to the next.
    Sequence,
    /// A frame of a client, whose answer must find its way back.
    Conversation,
    /// The text of a configuration.
    Config,
    /// What a router says of a packet, as raw sockets give it to the agent.
    Router,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Public,
        Self::Underlay,
        Self::Probe,
        Self::Sequence,
        Self::Conversation,
        Self::Config,
        Self::Router,
    ];

    /// Name of the program that fuzzes it, and of the folder of its corpus.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Underlay => "underlay",
            Self::Probe => "probe",
            Self::Sequence => "sequence",
            Self::Conversation => "conversation",
            Self::Config => "config",
            Self::Router => "router",
        }
    }

    /// Panics when lbx does something wrong with the input.
    pub fn run(self, input: &[u8]) {
        match self {
            Self::Config => config::check(input),
            Self::Router => router::check(input),
            Self::Public | Self::Underlay | Self::Probe | Self::Sequence | Self::Conversation => {
                self.run_in_lab(input);
            }
        }
    }

    fn run_in_lab(self, input: &[u8]) {
        LAB.with_borrow_mut(|lab| {
            lab.forget();
            if self == Self::Conversation {
                return conversation::check(lab, input);
            }
            for (on, frame) in self.frames(input) {
                sound::check(lab, on, frame);
            }
        });
    }

    /// The frames that an input stands for, and where they arrive; those that cannot are left out.
    pub fn frames(self, input: &[u8]) -> Vec<(On, &[u8])> {
        let frames = match self {
            Self::Public | Self::Conversation => vec![(On::Public, input)],
            Self::Underlay => vec![(On::Underlay, input)],
            Self::Probe => vec![(On::Probe, input)],
            Self::Sequence => sequence(input).into_iter().map(|frame| (On::Both, frame)).collect(),
            Self::Config | Self::Router => Vec::new(),
        };
        frames.into_iter().filter(|(_, frame)| (MIN_FRAME..=MAX_FRAME).contains(&frame.len())).collect()
    }

    /// The saved inputs, sorted by name.
    pub fn corpus(self) -> io::Result<Vec<Vec<u8>>> {
        let mut files: Vec<PathBuf> = fs::read_dir(corpus_folder(self.as_str()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()?;
        files.sort();
        files.iter().map(fs::read).collect()
    }
}

thread_local! {
    static LAB: std::cell::RefCell<HostPipeline> =
        std::cell::RefCell::new(HostPipeline::new(&crate::world::config()).expect("the world is valid"));
}

/// Where the saved inputs of a target are.
fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lbx-common/fuzz/corpus").join(target)
}

/// Frames with the length of each in front, two bytes; the last may end early.
fn sequence(mut input: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk() {
        let (frame, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        frames.push(frame);
        input = rest;
    }
    frames
}
