//! What a file of regions says: which prefixes of clients are in which region. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use lbx_common::{
    abi::{MAX_REGION_PREFIXES, region_id},
    api::{Mistake, Prefix},
    hash::mix,
};

use crate::{config, store::watched::line_of_no_text};

/// Longest file that is read, in bytes: some hundred for each prefix.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Most mistakes that are reported at once.
const MAX_MISTAKES: usize = 100;
/// Bit of all ids: smaller ones stand for other things.
const IS_LIST: u32 = 1 << 31;

/// A list of prefixes with their regions, of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegionList {
    id: u32,
    /// In order, each prefix once.
    entries: Vec<(Prefix, u32)>,
    /// By region id: name, and how many prefixes are in it.
    regions: BTreeMap<u32, (String, usize)>,
}

impl RegionList {
    /// Reads the content of a file: a line `PREFIX,REGION` each, empty ones and those with `#` in front aside. Reports
    /// every mistake with its line, the first hundred.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Mistake>> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let message = "this is not text: write the file in UTF-8";
            vec![Mistake { line: line_of_no_text(bytes, error), ..Mistake::new("", message) }]
        })?;
        if bytes.len() > MAX_BYTES {
            let message = format!("the file is too long: {MAX_BYTES} bytes are the most");
            return Err(vec![Mistake::new("", message)]);
        }
        let mut reader = Reader::default();
        for (number, line) in (1..).zip(text.lines()) {
            if reader.mistakes.len() >= MAX_MISTAKES || !reader.line(number, line.trim()) {
                break;
            }
        }
        reader.finish()
    }

    /// What it is known by in the kernel: a hash of what it says.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// All prefixes with the ids of their regions, in order.
    pub fn entries(&self) -> &[(Prefix, u32)] {
        &self.entries
    }

    /// Names of the regions, by id, with the number of their prefixes.
    pub const fn regions(&self) -> &BTreeMap<u32, (String, usize)> {
        &self.regions
    }

    /// The longest prefix that an address is in, with the id of its region.
    pub fn find(&self, address: IpAddr) -> Option<(Prefix, u32)> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (0..=bits).rev().find_map(|length| {
            let prefix = Prefix::around(address, length);
            let place = self.entries.binary_search_by_key(&prefix, |&(prefix, _)| prefix).ok()?;
            self.entries.get(place).copied()
        })
    }
}

/// Reads lines.
#[derive(Default)]
struct Reader {
    /// With the number of the line.
    entries: Vec<(Prefix, u32, u32)>,
    /// Names as they stand in the file, with their ids.
    ids: HashMap<String, u32>,
    /// Names in small letters, by id.
    names: BTreeMap<u32, String>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// Reads a line; returns whether to go on.
    fn line(&mut self, number: u32, line: &str) -> bool {
        // A file from elsewhere may begin with a byte order mark.
        let line = line.trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            return true;
        }
        if self.entries.len() >= MAX_REGION_PREFIXES as usize {
            let message = format!("there are more prefixes than lbx takes, which are {MAX_REGION_PREFIXES}");
            self.note(number, message);
            return false;
        }
        let read = line
            .split_once(',')
            .ok_or_else(|| {
                format!("`{}` is no line of this file: write it as `192.0.2.0/24,eu`", config::shorten(line))
            })
            .and_then(|(prefix, region)| Ok((read_prefix(prefix.trim())?, self.region(region.trim())?)));
        match read {
            Ok((prefix, region)) => self.entries.push((prefix, region, number)),
            Err(message) => self.note(number, message),
        }
        true
    }

    fn region(&mut self, name: &str) -> Result<u32, String> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        // Country codes are written in capitals.
        let small = name.to_ascii_lowercase();
        config::check_name(&small)?;
        let id = region_id(small.as_bytes());
        let known = self.names.entry(id).or_insert_with(|| small.clone());
        if *known != small {
            return Err(format!(
                "`{small}` and `{known}` cannot be told apart, their numbers are the same: rename one"
            ));
        }
        self.ids.insert(name.to_owned(), id);
        Ok(id)
    }

    fn note(&mut self, line: u32, message: String) {
        self.mistakes.push(Mistake { line: Some(line), ..Mistake::new("", message) });
    }

    fn finish(mut self) -> Result<RegionList, Vec<Mistake>> {
        let mut read = std::mem::take(&mut self.entries);
        read.sort_unstable();
        for pair in read.windows(2) {
            let &[(prefix, region, line), (other, other_region, other_line)] = pair else { continue };
            if prefix == other && region != other_region && self.mistakes.len() < MAX_MISTAKES {
                let name = |id| self.names.get(&id).cloned().unwrap_or_default();
                let mut both = [(line, region), (other_line, other_region)];
                both.sort_unstable();
                let [(first, one), (last, other)] = both;
                let message = format!(
                    "{prefix} is in line {first} already, and in another region (`{}` and `{}`): keep one",
                    name(one),
                    name(other)
                );
                self.note(last, message);
            }
        }
        if !self.mistakes.is_empty() {
            self.mistakes.sort_by_key(|mistake| mistake.line);
            return Err(self.mistakes);
        }
        read.dedup_by_key(|&mut (prefix, ..)| prefix);
        let mut list = RegionList { id: 0, entries: Vec::with_capacity(read.len()), ..RegionList::default() };
        let mut hash = 0;
        for (prefix, region, _) in read {
            let [high, low] = match prefix.address() {
                IpAddr::V4(address) => [1, u64::from(u32::from(address))],
                IpAddr::V6(address) => address
                    .to_bits()
                    .to_be_bytes()
                    .as_chunks()
                    .0
                    .iter()
                    .fold([2, 0], |[kind, sum], half| [kind, mix(sum) ^ u64::from_be_bytes(*half)]),
            };
            let tail = u64::from(region) << 16 | u64::from(prefix.length()) << 8 | high;
            hash = mix(mix(mix(hash) ^ low) ^ tail);
            list.entries.push((prefix, region));
            let name = || self.names.get(&region).cloned().unwrap_or_default();
            list.regions.entry(region).or_insert_with(|| (name(), 0)).1 += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a part of a hash")]
        let id = hash as u32 | IS_LIST;
        Ok(RegionList { id, ..list })
    }
}

fn read_prefix(text: &str) -> Result<Prefix, String> {
    text.parse().map_err(|error: lbx_common::api::PrefixError| {
        if text.len() > 64 {
            format!(
                "`{}` is not a prefix: write it as `192.0.2.0/24` or `2001:db8::/32`",
                config::shorten(text)
            )
        } else {
            error.to_string()
        }
    })
}

#[cfg(test)]
mod tests;
