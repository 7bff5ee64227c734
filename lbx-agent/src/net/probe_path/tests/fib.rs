//! Asks the kernel for a route as the data plane does: a program of nothing but `bpf_fib_lookup`, run once.
//!
//! Written in instructions, because a test of this crate must not need a BPF compiler.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Answers of `bpf_fib_lookup` in `include/uapi/linux/bpf.h`.
#[derive(Debug, PartialEq, Eq)]
pub enum Fib {
    /// `BPF_FIB_LKUP_RET_SUCCESS`
    Success,
    /// `BPF_FIB_LKUP_RET_FWD_DISABLED`
    ForwardingDisabled,
    /// `BPF_FIB_LKUP_RET_NO_NEIGH`
    NoNeighbour,
    /// Any other.
    Other(u32),
}

const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_TYPE_XDP: u32 = 6;
const FIB_LOOKUP_HELPER: i32 = 69;

/// An instruction: operation, registers (destination in the lower half), offset, immediate value.
fn instruction(operation: u8, registers: u8, offset: i16, value: i32) -> [u8; 8] {
    let ([o0, o1], [v0, v1, v2, v3]) = (offset.to_ne_bytes(), value.to_ne_bytes());
    [operation, registers, o0, o1, v0, v1, v2, v3]
}

/// The way to an address for a packet that arrived on a device, in the namespace of the calling thread.
pub fn fib_lookup(ifindex: u32, destination: IpAddr) -> Fib {
    // struct bpf_fib_lookup
    let mut question = [0; 64];
    question[8..12].copy_from_slice(&ifindex.to_ne_bytes());
    match destination {
        IpAddr::V4(address) => {
            question[0] = u8::try_from(libc::AF_INET).unwrap();
            question[32..36].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            question[0] = u8::try_from(libc::AF_INET6).unwrap();
            question[32..48].copy_from_slice(&address.octets());
        }
    }
    let mut program = Vec::new();
    for (offset, word) in (-64..).step_by(4).zip(question.chunks(4)) {
        // *(u32 *)(r10 + offset) = word
        program.extend(instruction(0x62, 0x0a, offset, i32::from_ne_bytes(word.try_into().unwrap())));
    }
    // r1 is the context still.
    program.extend(instruction(0xbf, 0xa2, 0, 0)); // r2 = r10
    program.extend(instruction(0x07, 0x02, 0, -64)); // r2 += -64
    program.extend(instruction(0xb7, 0x03, 0, 64)); // r3 = 64
    program.extend(instruction(0xb7, 0x04, 0, 0)); // r4 = 0
    program.extend(instruction(0x85, 0, 0, FIB_LOOKUP_HELPER)); // call
    program.extend(instruction(0x95, 0, 0, 0)); // exit
    match run(&load(&program)) {
        0 => Fib::Success,
        5 => Fib::ForwardingDisabled,
        7 => Fib::NoNeighbour,
        other => Fib::Other(other),
    }
}

fn load(program: &[u8]) -> OwnedFd {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        count: u32,
        program: *const u8,
        license: *const libc::c_char,
    }
    let count = u32::try_from(program.len() / 8).unwrap();
    let mut attributes =
        Attributes { kind: PROG_TYPE_XDP, count, program: program.as_ptr(), license: c"GPL".as_ptr() };
    // SAFETY: BPF_PROG_LOAD reads the first fields of `union bpf_attr`, which these are, and `count`
    // instructions of 8 bytes from `program`; all live until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw mut attributes, size_of::<Attributes>()) };
    assert!(fd >= 0, "the program is not loaded: {}", io::Error::last_os_error());
    // SAFETY: the call returned a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

fn run(program: &OwnedFd) -> u32 {
    #[repr(C)]
    struct Attributes {
        program: i32,
        result: u32,
        input_size: u32,
        output_size: u32,
        input: *const u8,
        output: *mut u8,
        repeat: u32,
        duration: u32,
    }
    let packet = [0; 64];
    let mut attributes = Attributes {
        program: program.as_raw_fd(),
        result: 0,
        input_size: 64,
        output_size: 0,
        input: packet.as_ptr(),
        output: std::ptr::null_mut(),
        repeat: 1,
        duration: 0,
    };
    // SAFETY: BPF_PROG_TEST_RUN reads and writes the first fields of `union bpf_attr`, which these are,
    // and reads `input_size` bytes from `input`; all live until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attributes, size_of::<Attributes>()) };
    assert_eq!(result, 0, "the program does not run: {}", io::Error::last_os_error());
    attributes.result
}
