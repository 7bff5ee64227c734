//! Lists of prefixes, in tries: whose packets a service takes, and which region a client is in. The agent sets their sizes
//! as those of the other maps.

use aya_ebpf::{
    btf_maps::{LpmTrie, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use lbx_common::abi::{PrefixV4, PrefixV6};

#[btf_map]
static PREFIXES_V4: LpmTrie<PrefixV4, u32, 1> = LpmTrie::new();
#[btf_map]
static PREFIXES_V6: LpmTrie<PrefixV6, u32, 1> = LpmTrie::new();
#[btf_map]
static REGIONS_V4: LpmTrie<PrefixV4, u32, 1> = LpmTrie::new();
#[btf_map]
static REGIONS_V6: LpmTrie<PrefixV6, u32, 1> = LpmTrie::new();
/// A question about an IPv6 prefix: the stack has no room for it.
#[btf_map]
static PREFIX: PerCpuArray<[u32; 6], 1> = PerCpuArray::new();

/// The verdict of the longest prefix in a list, by a [`PrefixV4`] in half words.
#[inline(always)]
pub fn verdict_v4([list, address]: [u32; 2]) -> Option<u32> {
    let key = [size_of::<PrefixV4>() as u32 * u8::BITS, list, address];
    // SAFETY: a key is a length and a prefix, of the same size as these words and without alignment of its own.
    PREFIXES_V4.get(unsafe { &*(&raw const key).cast::<Key<PrefixV4>>() }).copied()
}

/// The same by a [`PrefixV6`].
#[inline(always)]
pub fn verdict_v6([list, a, b, c, d]: [u32; 5]) -> Option<u32> {
    let place = PREFIX.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and programs on a CPU do not interrupt each other; and as above.
    let key = unsafe {
        *place = [size_of::<PrefixV6>() as u32 * u8::BITS, list, a, b, c, d];
        &*place.cast::<Key<PrefixV6>>()
    };
    PREFIXES_V6.get(key).copied()
}

/// The region of a [`PrefixV4`], as [`verdict_v4`] gets it.
#[inline(always)]
pub fn region_v4([list, address]: [u32; 2]) -> Option<u32> {
    let key = [size_of::<PrefixV4>() as u32 * u8::BITS, list, address];
    // SAFETY: as above.
    REGIONS_V4.get(unsafe { &*(&raw const key).cast::<Key<PrefixV4>>() }).copied()
}

/// The same by a [`PrefixV6`].
#[inline(always)]
pub fn region_v6([list, a, b, c, d]: [u32; 5]) -> Option<u32> {
    let place = PREFIX.get_ptr_mut(0)?;
    // SAFETY: as above.
    let key = unsafe {
        *place = [size_of::<PrefixV6>() as u32 * u8::BITS, list, a, b, c, d];
        &*place.cast::<Key<PrefixV6>>()
    };
    REGIONS_V6.get(key).copied()
}
