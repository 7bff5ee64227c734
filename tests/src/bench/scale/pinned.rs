//! Pinned maps, seen from outside of the agent: their words as they change, and what memory they take.

use std::{
    fs, io,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use aya::maps::{MapData, MapInfo};
use lbx_agent::{
    dataplane::{MapId, Region},
    plan::{entry_address, health_of},
};
use lbx_common::{
    abi::{EndpointEntry, Words},
    api::HealthState,
};
use nix::sys::mman::ProtFlags;

/// Words of an endpoint's entry.
const ENTRY: usize = size_of::<EndpointEntry>() / 8;

/// A map that the agent writes, read-only.
pub struct Mapping(Region);

impl Mapping {
    /// Maps a map that is pinned below `bpffs`.
    pub fn open(bpffs: &Path, map: MapId) -> Result<Self> {
        let pin = bpffs.join("maps").join(map.name());
        let open = || -> Result<Region> {
            let words = MapInfo::from_pin(&pin)?.max_entries() as usize * map.words();
            Ok(Region::map(&MapData::from_pin(&pin)?, words, ProtFlags::PROT_READ)?)
        };
        Ok(Self(open().with_context(|| format!("cannot look at {}", pin.display()))?))
    }

    /// Its words.
    pub fn words(&self) -> &[AtomicU64] {
        self.0.words()
    }

    /// Entries of endpoints, by id. To be called on that map only.
    fn endpoints(&self) -> impl Iterator<Item = (usize, EndpointEntry)> {
        let entries = self.words().chunks_exact(ENTRY).enumerate();
        entries.map(|(id, words)| (id, EndpointEntry::from_words(read(words))))
    }

    /// The words of the entry of the endpoint with this address.
    pub fn endpoint(&self, address: IpAddr) -> Result<&[AtomicU64]> {
        let wanted = entry_address(address);
        let found = self.endpoints().find(|(_, entry)| entry.vnet != 0 && entry.address == wanted);
        let (id, _) = found.with_context(|| format!("no endpoint has {address}"))?;
        self.words().get(id * ENTRY..(id + 1) * ENTRY).context("an entry that was just read")
    }

    /// Endpoints that take flows.
    pub fn healthy(&self) -> usize {
        self.endpoints()
            .filter(|(_, entry)| entry.vnet != 0 && health_of(entry) == HealthState::Healthy)
            .count()
    }
}

/// The words of an entry as they are now.
pub fn read(words: &[AtomicU64]) -> [u64; ENTRY] {
    let mut values = [0; ENTRY];
    for (value, word) in values.iter_mut().zip(words) {
        *value = word.load(Ordering::Acquire);
    }
    values
}

/// Bytes that the kernel has charged for all maps that are pinned below `bpffs`.
pub fn map_bytes(bpffs: &Path) -> Result<u64> {
    let maps = bpffs.join("maps");
    let mut sum = 0;
    for pin in fs::read_dir(&maps).with_context(|| maps.display().to_string())? {
        let pin = pin?.path();
        let one = || -> Result<u64> {
            let data = MapData::from_pin(&pin)?;
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd()))?;
            let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
            Ok(bytes.context("the kernel does not say what memory a map takes")?.trim().parse()?)
        };
        sum += one().with_context(|| pin.display().to_string())?;
    }
    Ok(sum)
}

/// A number of `/proc/PID/FILE` behind `key`, in its unit.
pub fn process_number(pid: u32, file: &str, key: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{path} has no number behind {key}"))
}

/// Processor time that a process has used, in clock ticks (proc(5)).
pub fn ticks(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may have blanks in it; what follows its bracket does not.
    let (_, rest) = text.rsplit_once(')').context("stat has a name")?;
    let field = |at| rest.split_whitespace().nth(at).and_then(|field: &str| field.parse::<u64>().ok());
    let both = field(11).zip(field(12)).context("utime and stime")?;
    Ok(both.0 + both.1)
}

/// Clock ticks of a second.
pub fn ticks_per_second() -> Result<f64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    #[expect(clippy::cast_precision_loss, reason = "it is 100")]
    ticks.map(|ticks| ticks as f64).ok_or_else(|| io::Error::other("no CLK_TCK").into())
}
