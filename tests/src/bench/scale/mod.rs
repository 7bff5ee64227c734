//! The agent with much to do (`cargo xtask bench scale`): its start, its memory, how long a change and a verdict take
//! to reach the kernel, and where that time goes.
//!
//! All endpoints are probed through a tunnel and answer. What a clock can see from outside is measured of the agent
//! as a process; verdicts at the agent's task in this process; the parts of a pass over maps in plain memory.

mod far_end;
mod library;
mod pinned;
mod process;
mod size;
mod task;

use anyhow::Result;

use self::far_end::FarEnd;
pub use self::size::Size;
use super::figures::Figures;
use crate::topology::Topology;

/// Measures everything. `tell` hears what comes next.
pub fn scale(size: Size, tell: &mut dyn FnMut(&str)) -> Result<Figures> {
    let mut figures = library::passes(size, tell)?;
    let topology = Topology::new()?;
    figures.extend(task::verdicts(&topology.lbx, size, tell)?);
    let far_end = FarEnd::start(&topology.west)?;
    figures.extend(process::with_store(&topology, size, tell)?);
    figures.extend(process::with_file(&topology, "dsr", &size.dsr(), tell)?);
    figures.extend(process::with_file(&topology, "nat", &size.nat(), tell)?);
    figures.extend(process::probes(&topology, size, tell)?);
    drop(far_end);
    Ok(Figures(figures))
}
