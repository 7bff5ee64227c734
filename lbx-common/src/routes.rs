//! Ways to clients that the kernel told, kept for the next packets that go the same way: to ask its FIB takes longer
//! than all the rest of a reply's way.
//!
//! An answer is kept under the whole question and counts for a second at most, however things go. The agent makes all
//! answers void at once whenever the kernel tells it of a change; the second is for when there is no agent.

use crate::{
    hash::mix,
    ip::IpAddress,
    tables::{Route, RouteQuery},
};

/// Which answers count, in one word, which the agent changes by one store. All-zero: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct RouteTerm(pub u64);

impl RouteTerm {
    /// Answers of this generation count for so many ticks of the kernel.
    pub const fn new(ticks: u32, generation: u16) -> Self {
        Self((ticks as u64) << 32 | generation as u64)
    }

    /// For how many ticks of the kernel an answer counts.
    #[inline(always)]
    pub const fn ticks(self) -> u64 {
        self.0 >> 32
    }

    /// The number that answers must have. It may come around: they do not live that long.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits of the word")]
    pub const fn generation(self) -> u16 {
        self.0 as u16
    }

    /// The same lifetime; all answers so far are void.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 & !0xffff | self.generation().wrapping_add(1) as u64)
    }
}

/// A question and its answer: a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct KnownRoute {
    /// Destination address.
    pub destination: [u64; 2],
    /// Source address, as [`Host::raw`].
    pub source: u32,
    /// Protocol number.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// 4 or 6; 0 = the entry is unset.
    pub family: u16,
    /// Egress interface.
    pub ifindex: u32,
    /// Source MAC, destination MAC.
    pub macs: [[u8; 6]; 2],
    /// Bytes of the packet that it is asked for; of an answer, the largest packet that it is true for.
    pub mtu: u16,
    /// [`RouteTerm::generation`] when the kernel was asked.
    pub generation: u16,
    /// When it was, in its ticks.
    pub asked: u64,
}

impl KnownRoute {
    /// Makes it a question.
    #[inline(always)]
    pub fn ask<A: IpAddress>(&mut self, query: &RouteQuery<A>) {
        self.source = query.source.raw;
        self.destination = query.destination.words();
        self.protocol = query.protocol;
        self.tos = query.tos;
        self.family = if A::V6 { 6 } else { 4 };
        self.mtu = query.length;
    }

    /// Hash of where the answer to the question is kept. With the secret, nobody can choose addresses that all have the
    /// place of somebody else's.
    #[inline(always)]
    pub const fn hash(&self, seed: &[u64; 2]) -> u32 {
        let [first, second] = self.destination;
        let other = (self.source as u64) << 32 ^ (self.protocol as u64) << 56;
        let word = if self.family == 6 { mix(first ^ seed[1]) ^ second } else { first };
        (mix(word ^ other ^ seed[0]) >> 32) as u32
    }

    /// Whether this is the answer to a question, and counts still.
    #[inline(always)]
    pub const fn answers(&self, question: &Self, ticks: u64) -> bool {
        let ([d0, d1], [e0, e1]) = (self.destination, question.destination);
        // Bit by bit, since nearly always all of it is so: each branch would be two ways for the verifier.
        let differs =
            d0 ^ e0 | d1 ^ e1 | (self.source ^ question.source) as u64 | self.rest() ^ question.rest();
        differs == 0 && question.asked.wrapping_sub(self.asked) < ticks && question.mtu <= self.mtu
    }

    /// What is as it was beside the addresses.
    #[inline(always)]
    const fn rest(&self) -> u64 {
        self.protocol as u64
            | (self.tos as u64) << 8
            | (self.family as u64) << 16
            | (self.generation as u64) << 32
    }

    /// The answer.
    #[inline(always)]
    pub const fn route(&self) -> Route {
        let [source, destination] = self.macs;
        Route::Direct { ifindex: self.ifindex, source, destination }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        abi::Host,
        bytes::{Address, Be32},
    };

    fn question() -> KnownRoute {
        let mut question = KnownRoute { generation: 7, asked: 1000, ..KnownRoute::default() };
        question.ask(&RouteQuery {
            source: Host::v4(Be32(1)),
            destination: Be32(2),
            protocol: 6,
            tos: 8,
            length: 100,
        });
        question
    }

    #[test]
    fn an_answer_counts_for_the_whole_question_for_its_time_and_for_what_fits() {
        let known = KnownRoute { mtu: 1500, ..question() };
        assert!(known.answers(&question(), 250));
        let other = |change: fn(&mut KnownRoute)| {
            let mut other = question();
            change(&mut other);
            known.answers(&other, 250)
        };
        assert!(other(|q| q.mtu = 1500) && !other(|q| q.mtu = 1501));
        assert!(other(|q| q.asked = 1249) && !other(|q| q.asked = 1250) && !other(|q| q.asked = 999));
        assert!(!other(|q| q.source = 3) && !other(|q| q.generation = 8) && !other(|q| q.family = 6));
        assert!(!other(|q| q.destination[0] = 3) && !other(|q| q.destination[1] = 3));
        assert!(!other(|q| q.protocol = 17) && !other(|q| q.tos = 0));
        // Nothing is kept, or nothing was ever known.
        assert!(!known.answers(&question(), 0));
        assert!(!KnownRoute::default().answers(&KnownRoute { generation: 0, asked: 0, ..question() }, 250));
    }

    #[test]
    fn a_term_goes_on_to_the_next_generation_and_keeps_its_time() {
        let term = RouteTerm::new(250, u16::MAX);
        assert_eq!((term.ticks(), term.generation()), (250, u16::MAX));
        assert_eq!(term.next(), RouteTerm::new(250, 0));
    }

    #[test]
    fn neighbours_have_places_all_over() {
        let places = |v6: bool| {
            let place = |number: u32| {
                let mut question = question();
                if v6 {
                    let destination = Address::from_words([0x20, u64::from(number) << 48]);
                    let source = Host::v6(1);
                    question.ask(&RouteQuery { source, destination, protocol: 6, tos: 0, length: 100 });
                } else {
                    question.destination[0] = u64::from(number.to_be());
                }
                question.hash(&[0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]) >> 16 & 0xff
            };
            let mut counts = [0_u32; 256];
            (0..25_600).for_each(|number| counts[place(number) as usize] += 1);
            counts
        };
        for v6 in [false, true] {
            let counts = places(v6);
            assert!(counts.iter().all(|count| (50..=150).contains(count)), "{v6}: {counts:?}");
        }
    }
}
