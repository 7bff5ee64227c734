//! Lists of prefixes, in tries: whose packets a service takes, and which region a client is in. The agent sets their sizes
//! as those of the other maps.

use aya_ebpf::{
    btf_maps::{LpmTrie, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use lbx_common::{
    abi::{PrefixV4, PrefixV6},
    ip::IpAddress,
};

type TrieV4 = LpmTrie<PrefixV4, u32, 1>;
type TrieV6 = LpmTrie<PrefixV6, u32, 1>;

#[btf_map]
static PREFIXES_V4: TrieV4 = LpmTrie::new();
#[btf_map]
static PREFIXES_V6: TrieV6 = LpmTrie::new();
#[btf_map]
static REGIONS_V4: TrieV4 = LpmTrie::new();
#[btf_map]
static REGIONS_V6: TrieV6 = LpmTrie::new();
/// A question about an IPv6 prefix: the stack has no room for it.
#[btf_map]
static PREFIX: PerCpuArray<[u32; 6], 1> = PerCpuArray::new();

/// The verdict of the longest prefix in a list that an address is in, which is given as its words.
#[inline(always)]
pub fn verdict<A: IpAddress>(list: u32, address: [u64; 2]) -> Option<u32> {
    if A::V6 { longest_v6(&PREFIXES_V6, list, address) } else { longest_v4(&PREFIXES_V4, list, address) }
}

/// The region, likewise.
#[inline(always)]
pub fn region<A: IpAddress>(list: u32, address: [u64; 2]) -> Option<u32> {
    if A::V6 { longest_v6(&REGIONS_V6, list, address) } else { longest_v4(&REGIONS_V4, list, address) }
}

/// A key is written as half words in memory order; the address fills one of them.
#[inline(always)]
fn longest_v4(trie: &'static TrieV4, list: u32, [address, _]: [u64; 2]) -> Option<u32> {
    let key = [size_of::<PrefixV4>() as u32 * u8::BITS, list, address as u32];
    // SAFETY: a key is a length and a prefix, of the same size as these words and without alignment of its own.
    trie.get(unsafe { &*(&raw const key).cast::<Key<PrefixV4>>() }).copied()
}

#[inline(always)]
fn longest_v6(trie: &'static TrieV6, list: u32, [first, second]: [u64; 2]) -> Option<u32> {
    let place = PREFIX.get_ptr_mut(0)?;
    let [a, b, c, d] = [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32];
    // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other; and as above.
    let key = unsafe {
        *place = [size_of::<PrefixV6>() as u32 * u8::BITS, list, a, b, c, d];
        &*place.cast::<Key<PrefixV6>>()
    };
    trie.get(key).copied()
}
