//! Bounds-checked access to packet bytes.
//!
//! A *window* is a run of bytes that was checked once against the end of the packet; its accessors have
//! constant offsets that the compiler checks against its length. On BPF they become plain loads and stores,
//! which the verifier follows. No other file of the pipeline touches packet bytes by pointers.

use core::marker::PhantomData;

use crate::{
    bytes::{Address, Be16, Be32},
    checksum::Sum,
};

/// A frame that can be read, changed, and made longer or shorter at its head.
pub trait Packet {
    /// Whether the frame has at least `bytes` bytes, those outside of the directly readable part included.
    fn holds(&self, bytes: usize) -> bool;

    /// The `N` bytes from `at` on; `None` where the frame (or its readable part) ends before.
    fn window<const N: usize>(&self, at: usize) -> Option<Window<'_, N>>;

    /// The same for writing.
    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<WindowMut<'_, N>>;

    /// Cuts the frame off behind its first `bytes` bytes. Returns whether it had as many.
    fn truncate(&mut self, bytes: usize) -> bool;

    /// Puts `bytes` bytes of undefined content in front of the frame (takes them away where negative).
    /// Returns whether there was room.
    fn move_head(&mut self, bytes: i32) -> bool;
}

/// `N` readable bytes.
#[derive(Clone, Copy)]
pub struct Window<'a, const N: usize> {
    bytes: *const u8,
    packet: PhantomData<&'a [u8; N]>,
}

/// `N` writable bytes.
pub struct WindowMut<'a, const N: usize> {
    bytes: *mut u8,
    packet: PhantomData<&'a mut [u8; N]>,
}

/// Loads a `T` at any alignment. BPF loads packet bytes at any alignment in one instruction, but LLVM emits
/// byte loads unless it believes the pointer aligned.
///
/// # Safety
/// `size_of::<T>()` bytes from `at` on are readable; `T` is an integer.
#[inline(always)]
unsafe fn load<T: Copy>(at: *const u8) -> T {
    // SAFETY: readable by the contract; the kernel lets packet pointers be unaligned where the CPU does.
    #[cfg(target_arch = "bpf")]
    #[expect(clippy::cast_ptr_alignment, reason = "on BPF a packet may be read at any alignment")]
    return unsafe { at.cast::<T>().read() };
    // SAFETY: readable by the contract.
    #[cfg(not(target_arch = "bpf"))]
    return unsafe { at.cast::<T>().read_unaligned() };
}

/// Stores a `T` at any alignment; see [`load`].
///
/// # Safety
/// `size_of::<T>()` bytes from `at` on are writable; `T` is an integer.
#[inline(always)]
unsafe fn store<T: Copy>(at: *mut u8, value: T) {
    // SAFETY: writable by the contract; the kernel lets packet pointers be unaligned where the CPU does.
    #[cfg(target_arch = "bpf")]
    #[expect(clippy::cast_ptr_alignment, reason = "on BPF a packet may be written at any alignment")]
    unsafe {
        at.cast::<T>().write(value);
    }
    // SAFETY: writable by the contract.
    #[cfg(not(target_arch = "bpf"))]
    unsafe {
        at.cast::<T>().write_unaligned(value);
    }
}

impl<const N: usize> Window<'_, N> {
    /// A window that begins at `bytes`.
    ///
    /// # Safety
    /// `N` bytes from `bytes` on stay readable for the lifetime of the window.
    #[inline(always)]
    pub unsafe fn new(bytes: *const u8) -> Self {
        Self { bytes, packet: PhantomData }
    }

    /// The byte at `O`.
    #[inline(always)]
    pub fn byte<const O: usize>(&self) -> u8 {
        const { assert!(O < N) };
        // SAFETY: O lies in the window.
        unsafe { load(self.bytes.add(O)) }
    }

    /// The two bytes at `O`.
    #[inline(always)]
    pub fn be16<const O: usize>(&self) -> Be16 {
        const { assert!(O + 2 <= N) };
        // SAFETY: both bytes lie in the window.
        Be16(unsafe { load(self.bytes.add(O)) })
    }

    /// The four bytes at `O`.
    #[inline(always)]
    pub fn be32<const O: usize>(&self) -> Be32 {
        const { assert!(O + 4 <= N) };
        // SAFETY: all four bytes lie in the window.
        Be32(unsafe { load(self.bytes.add(O)) })
    }
}

impl<const N: usize> Window<'_, N> {
    /// The sum over all words, for a checksum.
    #[inline(always)]
    pub fn sum(&self) -> Sum {
        const { assert!(N.is_multiple_of(4)) };
        let mut sum = Sum::default();
        for word in 0..N / 4 {
            // SAFETY: all four bytes lie in the window.
            sum = sum.add32(unsafe { load(self.bytes.add(word * 4)) });
        }
        sum
    }

    /// The sixteen bytes at `O`: an IPv6 address.
    #[inline(always)]
    pub fn address<const O: usize>(&self) -> Address {
        const { assert!(O + 16 <= N) };
        // SAFETY: all sixteen bytes lie in the window.
        unsafe { Address::from_words([load(self.bytes.add(O)), load(self.bytes.add(O).add(8))]) }
    }
}

impl<const N: usize> WindowMut<'_, N> {
    /// Sets the sixteen bytes at `O`: an IPv6 address.
    #[inline(always)]
    pub fn set_address<const O: usize>(&mut self, address: Address) {
        const { assert!(O + 16 <= N) };
        let [first, second] = address.words();
        // SAFETY: all sixteen bytes lie in the window.
        unsafe {
            store(self.bytes.add(O), first);
            store(self.bytes.add(O).add(8), second);
        }
    }

    /// A window that begins at `bytes`.
    ///
    /// # Safety
    /// `N` bytes from `bytes` on stay readable and writable, by nobody else, for the lifetime of the window.
    #[inline(always)]
    pub unsafe fn new(bytes: *mut u8) -> Self {
        Self { bytes, packet: PhantomData }
    }

    /// The same bytes for reading.
    #[inline(always)]
    pub fn read(&self) -> Window<'_, N> {
        // SAFETY: the bytes are readable as long as this window lives.
        unsafe { Window::new(self.bytes) }
    }

    /// Sets the byte at `O`.
    #[inline(always)]
    pub fn set_byte<const O: usize>(&mut self, value: u8) {
        const { assert!(O < N) };
        // SAFETY: O lies in the window.
        unsafe { store(self.bytes.add(O), value) }
    }

    /// Sets the two bytes at `O`.
    #[inline(always)]
    pub fn set_be16<const O: usize>(&mut self, value: Be16) {
        const { assert!(O + 2 <= N) };
        // SAFETY: both bytes lie in the window.
        unsafe { store(self.bytes.add(O), value.0) }
    }

    /// Sets the four bytes at `O`.
    #[inline(always)]
    pub fn set_be32<const O: usize>(&mut self, value: Be32) {
        const { assert!(O + 4 <= N) };
        // SAFETY: all four bytes lie in the window.
        unsafe { store(self.bytes.add(O), value.0) }
    }

    /// Sets the eight bytes at `O`, given as they lie in memory.
    #[inline(always)]
    pub fn set_word<const O: usize>(&mut self, value: u64) {
        const { assert!(O + 8 <= N) };
        // SAFETY: all eight bytes lie in the window.
        unsafe { store(self.bytes.add(O), value) }
    }

    /// Sets the two bytes at `O` where the window has them: for code that is generic over the window's length
    /// and calls this only where it does.
    #[inline(always)]
    pub fn set_be16_if<const O: usize>(&mut self, value: Be16) {
        if O + 2 <= N {
            // SAFETY: both bytes lie in the window.
            unsafe { store(self.bytes.add(O), value.0) }
        }
    }

    /// Sets all bytes, given as words in memory order; what the window has no room for is left out.
    #[inline(always)]
    pub fn set_words<const W: usize>(&mut self, words: &[u64; W]) {
        const { assert!(N <= 8 * W && N.is_multiple_of(2)) };
        for (i, word) in words.iter().enumerate() {
            let at = i * 8;
            if at + 8 <= N {
                // SAFETY: all eight bytes lie in the window.
                unsafe { store(self.bytes.add(at), *word) }
            } else if at < N {
                let [b0, b1, b2, b3, b4, b5, ..] = word.to_ne_bytes();
                let halves = [[b0, b1], [b2, b3], [b4, b5]];
                for (j, half) in halves.into_iter().enumerate() {
                    let at = at + j * 2;
                    if at + 2 <= N {
                        // SAFETY: both bytes lie in the window.
                        unsafe { store(self.bytes.add(at), u16::from_ne_bytes(half)) }
                    }
                }
            }
        }
    }

    /// Sets the six bytes at `O`: a MAC address.
    #[inline(always)]
    pub fn set_mac<const O: usize>(&mut self, mac: [u8; 6]) {
        const { assert!(O + 6 <= N) };
        let [a, b, c, d, rest @ ..] = mac;
        // SAFETY: all six bytes lie in the window.
        unsafe {
            store(self.bytes.add(O), u32::from_ne_bytes([a, b, c, d]));
            store(self.bytes.add(O).add(4), u16::from_ne_bytes(rest));
        }
    }
}

/// A frame in a byte buffer of the host, with room in front: what tests, fuzzers and `explain` use.
#[derive(Debug)]
pub struct SlicePacket<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
}

impl<'a> SlicePacket<'a> {
    /// The frame `buffer[start..]`; the bytes before are head room.
    pub fn new(buffer: &'a mut [u8], start: usize) -> Self {
        let end = buffer.len();
        Self { buffer, start: start.min(end), end }
    }

    /// The frame as it stands now.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

impl Packet for SlicePacket<'_> {
    fn holds(&self, bytes: usize) -> bool {
        self.bytes().len() >= bytes
    }

    fn window<const N: usize>(&self, at: usize) -> Option<Window<'_, N>> {
        let bytes = self.bytes().get(at..at.checked_add(N)?)?;
        // SAFETY: the slice has N bytes and is borrowed as long as the window.
        Some(unsafe { Window::new(bytes.as_ptr()) })
    }

    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<WindowMut<'_, N>> {
        let bytes = self.buffer.get_mut(self.start..self.end)?.get_mut(at..at.checked_add(N)?)?;
        // SAFETY: the slice has N bytes and is borrowed mutably as long as the window.
        Some(unsafe { WindowMut::new(bytes.as_mut_ptr()) })
    }

    fn truncate(&mut self, bytes: usize) -> bool {
        let end = self.start.saturating_add(bytes);
        let fits = end <= self.end;
        if fits {
            self.end = end;
        }
        fits
    }

    fn move_head(&mut self, bytes: i32) -> bool {
        let Some(start) = self.start.checked_add_signed((bytes as isize).wrapping_neg()) else {
            return false;
        };
        // The kernel keeps at least an Ethernet header (net/core/filter.c, bpf_xdp_adjust_head).
        if start.saturating_add(14) > self.end {
            return false;
        }
        self.start = start;
        true
    }
}
