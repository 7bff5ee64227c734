//! What would become of a client's packet, and why: the programs' own pipeline over the live maps, and what it met put
//! into words.

mod describe;
mod packet;
mod tables;

use lbx_common::{
    packet::SlicePacket,
    pipeline::{self, PUBLIC},
    reason::{DropReason, Verdict},
};

pub use self::{
    describe::{Facts, describe},
    packet::{Mismatch, frame},
    tables::{LiveTables, Met, Remembered},
};
use crate::dataplane::Memory;

/// Room in front of a frame for the tunnel headers, as XDP has it.
const HEADROOM: usize = 256;

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict of the pipeline.
    pub verdict: Verdict,
    /// Why it was dropped, where it was; also where its sender is told.
    pub dropped: Option<DropReason>,
    /// What it met.
    pub met: Met,
    /// The frame as it leaves.
    pub frame: Vec<u8>,
}

/// Runs the pipeline over a frame that arrives on an interface for clients.
pub fn run<M: Memory, R: Remembered>(tables: &LiveTables<'_, M, R>, frame: &[u8]) -> Outcome {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend(frame);
    let mut packet = SlicePacket::new(&mut buffer, HEADROOM);
    let mut verdict = pipeline::ingress(&mut packet, tables, PUBLIC);
    while let Some(Verdict::Continue(stage)) = verdict.unpack() {
        verdict = pipeline::stage(&mut packet, tables, stage);
    }
    let met = tables.met();
    // A number that is no verdict would be a mistake of the pipeline's, which the kernel drops.
    let inconsistent = Verdict::Drop { vnet: 0, reason: DropReason::Inconsistent };
    Outcome {
        verdict: verdict.unpack().unwrap_or(inconsistent),
        dropped: met.dropped.and_then(DropReason::from_number),
        met,
        frame: packet.bytes().to_vec(),
    }
}
