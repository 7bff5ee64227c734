//! The kernel's maps and programs, as the agent sees them.
//!
//! `memory` is the seam: maps as arrays of words, backed by the kernel or by plain vectors. Everything above
//! it (`buckets`, `image`, `diff`) is the same for both; everything below (`mapped`, `programs`, `attach`)
//! talks to the kernel and decides nothing.

mod attach;
mod buckets;
mod counters;
mod diff;
mod image;
mod link;
mod mapped;
mod memory;
mod pins;
mod prefixes;
mod programs;
mod regions;
mod renew;
mod routes;
mod samples;
mod word;

pub use attach::{AttachError, Attachments, Waiting};
pub use buckets::{Full, buckets_for, mend};
pub use counters::{Counters, CountersError, KernelCounters, NoCounters, Owner};
pub use diff::{ApplyError, Step, apply, diff, update_endpoint};
pub use image::{Image, lines_for};
pub use mapped::{KernelMemory, MapError, Region};
#[cfg(test)]
pub use memory::interfered::{Interfered, Write};
pub use memory::{FakeMemory, MapId, Memory};
pub use pins::{PinError, Pins};
pub use prefixes::{KernelPrefixes, PrefixList, PrefixLists, PrefixesError};
pub use programs::{LoadError, Loaded, OBJECT, Remembered, Sizes, load};
pub use regions::RegionMaps;
pub use renew::Before;
pub use routes::KnownRoutes;
pub use samples::{Samples, Sampling};
