//! Regions of clients: what the lists in `REGIONS_V4` and `REGIONS_V6` say.
//!
//! A list is what one content of the operator's file says, and its id is a hash of that. It is complete before a packet
//! is looked up in it, and never changed.

/// Prefixes in a list, of both families.
pub const MAX_REGION_PREFIXES: u32 = 2_000_000;

/// Id of the list in which nobody is. Stands for "before there was a list", where 0 is "nothing changed".
pub const NO_REGIONS: u32 = 1;

/// Id of the region of a name: a hash, so that it is the same whatever else there is; never 0.
pub const fn region_id(name: &[u8]) -> u32 {
    // FNV-1a with 64 bits, of which the higher ones are folded in.
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < name.len() {
        if let Some((_, rest)) = name.split_at_checked(at)
            && let Some(&byte) = rest.first()
        {
            hash = (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
        }
        at = at.wrapping_add(1);
    }
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let folded = (hash >> 32) as u32 ^ hash as u32;
    if folded == 0 { 1 } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_with_names_that_look_alike_have_ids_of_their_own() {
        let names: Vec<String> =
            (0..2000).map(|n| format!("r{n}")).chain(["eu".into(), "EU".into()]).collect();
        let ids: std::collections::BTreeSet<u32> =
            names.iter().map(|name| region_id(name.as_bytes())).chain([region_id(b"")]).collect();
        assert_eq!(ids.len(), names.len() + 1);
        assert!(!ids.contains(&0));
    }
}
