//! Regions of clients: the operator's file, read and watched, and its list in the kernel's maps.

mod list;
mod reader;

pub use list::{MAX_BYTES, RegionList};
pub use reader::{LoadFailed, Loaded, Reader, Regions, read};
