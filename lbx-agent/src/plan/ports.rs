//! Ranges of ports as blocks that a key can name: each block is all ports with the same leading bits.

use lbx_common::abi::PortBlock;

/// The fewest blocks that make up `first ..= last`.
pub fn blocks(first: u16, last: u16) -> Vec<PortBlock> {
    let (mut start, end) = (u32::from(first), u32::from(last) + 1);
    let mut blocks = Vec::new();
    while start < end {
        // As large as the start is aligned and the rest allows.
        let aligned = if start == 0 { u32::from(PortBlock::WHOLE) } else { start.trailing_zeros().min(16) };
        let size = aligned.min((end - start).ilog2());
        let (Ok(port), Ok(free)) = (u16::try_from(start), u8::try_from(size)) else { break };
        blocks.push(PortBlock { port, length: PortBlock::WHOLE - free });
        start += 1 << size;
    }
    blocks
}

/// The lengths of blocks below 16, as bits.
pub fn lengths(blocks: &[PortBlock]) -> u16 {
    let short = blocks.iter().filter(|block| block.length < PortBlock::WHOLE);
    short.fold(0, |bits, block| bits | 1 << block.length)
}

#[cfg(test)]
mod tests {
    use lbx_common::bytes::Be16;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_port_and_all_ports_are_one_block() {
        assert_eq!(blocks(443, 443), [PortBlock { port: 443, length: 16 }]);
        assert_eq!(blocks(0, 65_535), [PortBlock { port: 0, length: 0 }]);
        assert_eq!(blocks(8000, 8001), [PortBlock { port: 8000, length: 15 }]);
        assert_eq!(lengths(&blocks(8000, 8002)), 1 << 15);
    }

    proptest! {
        #[test]
        fn a_port_lies_in_a_block_exactly_when_it_lies_in_the_range(first: u16, last: u16, port: u16) {
            let blocks = blocks(first, last);
            prop_assert!(blocks.len() <= 30);
            let within = blocks
                .iter()
                .filter(|block| PortBlock::around(Be16::new(port), block.length).port == block.port)
                .count();
            prop_assert_eq!(within, usize::from((first..=last).contains(&port)));
        }
    }
}
