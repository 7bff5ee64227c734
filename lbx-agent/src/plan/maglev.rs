//! Weighted Maglev tables (Eisenbud et al., NSDI 2016, §3.4): every slot filled, shares by weight, and few
//! slots moved when a member comes or goes.
//!
//! A table is a function of its members and their weights alone: not of their order, not of history. Exact
//! quotas (largest remainder) decide how many slots a member gets; the permutations decide which.

use lbx_common::hash::{mix, scale};

/// A member of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// What it is, the same on all nodes: network, address and port, hashed by [`identity`].
    pub identity: u64,
    /// Weight, relative to the other members; those of weight 0 get no slot.
    pub weight: u16,
    /// What its slots say.
    pub id: u16,
}

/// Identity of a member from numbers that say what it is.
pub fn identity(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0x6c62_7800_0000_0001, |sum, part| mix(sum ^ mix(part ^ 0x2545_f491_4f6c_dd1d)))
}

/// A table of `slots` slots (a prime); `None` where no member has any weight.
pub fn build(members: &[Member], slots: u32) -> Option<Vec<u16>> {
    let mut members: Vec<Member> = members.iter().copied().filter(|member| member.weight > 0).collect();
    members.sort_unstable();
    let heaviest = members.iter().map(|member| u32::from(member.weight)).max()?;
    let quotas = quotas(&members, slots);
    let mut turns: Vec<Turn> =
        members.iter().zip(quotas).map(|(m, quota)| Turn::new(m, quota, slots)).collect();

    let mut table = vec![None; slots as usize];
    let mut filled = 0;
    while filled < slots {
        for turn in &mut turns {
            turn.credit += u32::from(turn.member.weight);
            // The rounding of quotas may leave a member short of its quota at the end: it goes on taking
            // its turns until all slots are filled.
            if turn.credit < heaviest || turn.left == 0 {
                continue;
            }
            turn.credit -= heaviest;
            turn.left -= 1;
            filled += 1;
            let member = turn.member.id;
            turn.take_preferred(&mut table, member);
        }
    }
    Some(table.into_iter().flatten().collect())
}

/// Slots of each member: proportional to weight, at least one, in all `slots`.
fn quotas(members: &[Member], slots: u32) -> Vec<u32> {
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let shares: Vec<(u32, u64)> = members
        .iter()
        .map(|member| {
            let exact = u64::from(slots) * u64::from(member.weight);
            (u32::try_from(exact / total).unwrap_or(slots), exact % total)
        })
        .collect();
    let mut quotas: Vec<u32> = shares.iter().map(|&(whole, _)| whole.max(1)).collect();
    let mut by_remainder: Vec<usize> = (0..members.len()).collect();
    by_remainder.sort_by_key(|&i| shares.get(i).map(|&(_, rest)| std::cmp::Reverse(rest)));
    let mut sum: u32 = quotas.iter().sum();
    // What is left over goes to the largest remainders ...
    for &i in by_remainder.iter().cycle().take(slots.saturating_sub(sum) as usize) {
        if let Some(quota) = quotas.get_mut(i) {
            *quota += 1;
            sum += 1;
        }
    }
    // ... and what the small ones got in excess comes from the largest quotas.
    while sum > slots {
        let Some(largest) = quotas.iter_mut().max().filter(|quota| **quota > 1) else { break };
        *largest -= 1;
        sum -= 1;
    }
    quotas
}

/// A member while the table is filled.
struct Turn {
    member: Member,
    left: u32,
    credit: u32,
    /// Next slot of its permutation, and the permutation's step.
    next: u32,
    step: u32,
}

impl Turn {
    fn new(member: &Member, quota: u32, slots: u32) -> Self {
        let hash = mix(member.identity);
        #[expect(clippy::cast_possible_truncation, reason = "two halves of the hash")]
        let (low, high) = (hash as u32, (hash >> 32) as u32);
        Self {
            member: *member,
            left: quota,
            credit: 0,
            next: scale(low, slots),
            step: scale(high, slots - 1) + 1,
        }
    }

    /// Takes the first free slot of the permutation.
    fn take_preferred(&mut self, table: &mut [Option<u16>], id: u16) {
        let slots = u32::try_from(table.len()).unwrap_or(u32::MAX);
        loop {
            let at = self.next as usize;
            self.next = advance(self.next, self.step, slots);
            match table.get_mut(at) {
                Some(slot) if slot.is_none() => {
                    *slot = Some(id);
                    return;
                }
                _ => {}
            }
        }
    }
}

/// `(at + step) mod slots`, for `at` and `step` below `slots`. As `slots` is prime, every step leads through
/// all slots.
const fn advance(at: u32, step: u32, slots: u32) -> u32 {
    let next = at.wrapping_add(step);
    if next >= slots { next.wrapping_sub(slots) } else { next }
}

#[cfg(test)]
mod tests;
