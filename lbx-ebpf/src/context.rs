//! The packet as the kernel shows it: the only pointer arithmetic of the programs.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use lbx_common::packet::{Packet, Window, WindowMut};

/// A frame in an XDP program. Of a frame in several buffers only the first can be read and written, which
/// is where the headers are.
pub struct XdpPacket {
    ctx: *mut xdp_md,
}

impl XdpPacket {
    /// The frame of `ctx`.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { ctx: ctx.ctx }
    }

    /// Start of `N` bytes at `at`, if they lie before the end of the data.
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<*mut u8> {
        // SAFETY: the kernel keeps the context valid while the program runs.
        let (start, end) = unsafe { ((*self.ctx).data as usize, (*self.ctx).data_end as usize) };
        let from = start.wrapping_add(at);
        // The verifier follows this comparison and then allows N bytes from `from` on.
        (from.wrapping_add(N) <= end).then_some(from as *mut u8)
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        // SAFETY: the kernel keeps the context valid while the program runs.
        let linear = unsafe { (*self.ctx).data_end.wrapping_sub((*self.ctx).data) } as usize;
        // Only a frame in several buffers is worth the call.
        // SAFETY: as above.
        linear >= bytes || (unsafe { bpf_xdp_get_buff_len(self.ctx) }) as usize >= bytes
    }

    #[inline(always)]
    fn window<const N: usize>(&self, at: usize) -> Option<Window<'_, N>> {
        // SAFETY: N bytes lie before the end of the data; they move only by `move_head`, which needs `&mut`.
        self.bytes::<N>(at).map(|bytes| unsafe { Window::new(bytes) })
    }

    #[inline(always)]
    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<WindowMut<'_, N>> {
        // SAFETY: N bytes lie before the end of the data, and `&mut self` keeps others away.
        self.bytes::<N>(at).map(|bytes| unsafe { WindowMut::new(bytes) })
    }

    #[inline(always)]
    fn truncate(&mut self, bytes: usize) -> bool {
        // SAFETY: the kernel keeps the context valid while the program runs.
        let length = (unsafe { bpf_xdp_get_buff_len(self.ctx) }) as usize;
        if bytes > length {
            return false;
        }
        let cut = (length.wrapping_sub(bytes) as i32).wrapping_neg();
        // SAFETY: the kernel checks the new tail against the buffer.
        (unsafe { bpf_xdp_adjust_tail(self.ctx, cut) }) == 0
    }

    #[inline(always)]
    fn move_head(&mut self, bytes: i32) -> bool {
        // SAFETY: the kernel checks the new head against the buffer.
        (unsafe { bpf_xdp_adjust_head(self.ctx, bytes.wrapping_neg()) }) == 0
    }
}
