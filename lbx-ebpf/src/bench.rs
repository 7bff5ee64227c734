//! Programs that `cargo xtask bench datapath` measures with; never part of lbx.
//!
//! A test run with repetitions hands each run the frame that the one before it left. So `bench_wrap` makes the frame
//! what it was, and calls the program that is measured. The floors do the least that a program of their size of
//! outer headers must do.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod runtime;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX},
        btf_maps::{Array, ProgramArray},
        helpers::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len},
        macros::{btf_map, xdp},
        programs::XdpContext,
    };

    /// Words at the start of a frame that are made anew.
    const HEAD_WORDS: usize = 12;
    const HEAD: usize = HEAD_WORDS * 8;
    /// Place of a frame's length (low half) and of the program to call (high half).
    const LENGTH_AND_TARGET: usize = 12;
    /// Place of what is different from one run to the next: masks over the number of the run for the flow (low
    /// half) and the VIP (high half), each 0 for none.
    const MASKS: usize = 13;
    /// Place of the number of the run.
    const NUMBER: usize = 14;
    /// Place of where the number of the flow goes: the offset of its lower half (first quarter) and of its upper half
    /// (second), and what is set beside the latter (third).
    const FLOW: usize = 15;
    /// Offset in an Ethernet frame with IPv4 of the lower half of the destination.
    const DESTINATION: usize = 32;

    #[btf_map]
    static RUN: Array<[u64; 16], 1> = Array::new();
    #[btf_map]
    static TARGETS: ProgramArray<64> = ProgramArray::new();

    /// Makes the frame what it was, or the first packet of another flow, and goes on with the program under test.
    #[xdp(frags)]
    pub fn bench_wrap(ctx: XdpContext) -> u32 {
        let Some(run) = RUN.get_ptr_mut(0) else { return XDP_ABORTED };
        // SAFETY: one run is under way at a time.
        let run = unsafe { &mut *run };
        let length = run[LENGTH_AND_TARGET] as u32 as i32;
        // By a helper: the verifier lets nobody calculate with packet pointers and numbers out of a map.
        // SAFETY: the kernel hands a valid context to the program.
        let moved = (unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as i32).wrapping_sub(length);
        // SAFETY: the kernel checks the new head against the buffer.
        if moved != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, moved) } != 0 {
            return XDP_ABORTED;
        }
        let start = ctx.data();
        if start.wrapping_add(HEAD) > ctx.data_end() {
            return XDP_ABORTED;
        }
        for (word, value) in run[..HEAD_WORDS].iter().enumerate() {
            // SAFETY: the head lies before the end of the data; BPF stores at any alignment.
            unsafe { ((start as *mut u64).add(word)).write(*value) };
        }
        let number = run[NUMBER] as u32;
        run[NUMBER] = run[NUMBER].wrapping_add(1);
        let (flows, vips) = (run[MASKS] as u32, (run[MASKS] >> 32) as u32);
        let put = |at: usize, value: u32| {
            // What is calculated with a number out of a map must be compared anew.
            let place = start.wrapping_add(at);
            if place.wrapping_add(2) <= ctx.data_end() {
                // SAFETY: the two bytes lie before the end of the data.
                unsafe { (place as *mut u16).write((value as u16).to_be()) };
            }
        };
        if flows != 0 {
            let flow = number & flows;
            // Bounded for the verifier.
            put(run[FLOW] as usize & 63, flow);
            put((run[FLOW] >> 16) as usize & 63, (flow >> 16) | (run[FLOW] >> 32) as u32);
        }
        if vips != 0 {
            put(DESTINATION, (number & vips).wrapping_add(0x100));
        }
        // SAFETY: nothing here waits to be dropped.
        unsafe { TARGETS.tail_call(&ctx, (run[LENGTH_AND_TARGET] >> 32) as u32) };
        XDP_ABORTED
    }

    /// What the wrapper itself takes.
    #[xdp(frags)]
    pub fn bench_empty(_: XdpContext) -> u32 {
        XDP_PASS
    }

    /// What a tail call takes whose place is known.
    #[xdp(frags)]
    pub fn bench_hop(ctx: XdpContext) -> u32 {
        // SAFETY: nothing here waits to be dropped.
        unsafe { TARGETS.tail_call(&ctx, 0) };
        XDP_ABORTED
    }

    /// Moves the head by `-MOVE` and writes `LENGTH` constant bytes there.
    #[inline(always)]
    fn floor<const MOVE: i32, const LENGTH: usize>(ctx: &XdpContext) -> u32 {
        // SAFETY: the kernel checks the new head against the buffer.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, MOVE) } != 0 {
            return XDP_ABORTED;
        }
        let start = ctx.data();
        if start.wrapping_add(LENGTH) > ctx.data_end() {
            return XDP_ABORTED;
        }
        let mut at = 0;
        while at + 8 <= LENGTH {
            // SAFETY: the bytes lie before the end of the data.
            unsafe { (start.wrapping_add(at) as *mut u64).write(0x0045_0008_0000_0002) };
            at += 8;
        }
        while at + 2 <= LENGTH {
            // SAFETY: as above.
            unsafe { (start.wrapping_add(at) as *mut u16).write(0x5555) };
            at += 2;
        }
        XDP_TX
    }

    macro_rules! floors {
        ($($name:ident: $move:literal, $length:literal;)*) => {
            $(
                #[doc = concat!("An Ethernet header, and ", stringify!($move), " bytes less in front.")]
                #[xdp(frags)]
                pub fn $name(ctx: XdpContext) -> u32 {
                    floor::<$move, $length>(&ctx)
                }
            )*
        };
    }

    floors! {
        bench_floor_28: -28, 42;
        bench_floor_36: -36, 50;
        bench_floor_50: -50, 64;
        bench_floor_48: -48, 62;
        bench_floor_back: 28, 14;
    }
}
