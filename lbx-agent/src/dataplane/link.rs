//! Pinned links: which device one leads to, and taking its program off it. Commands of bpf(2) that aya does not
//! have.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Head of `struct bpf_link_info`, for a link of XDP or TCX.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    _padding: u32,
    ifindex: u32,
    _rest: u32,
}

/// Head of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoByFd {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// Index of the device that the link pinned at `path` leads to; `None` where that device is gone.
pub fn device(path: &Path) -> io::Result<Option<u32>> {
    let link = open(path)?;
    let mut info = LinkInfo::default();
    let attributes = InfoByFd {
        descriptor: link.as_raw_fd().unsigned_abs(),
        length: u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the command reads the head that it gets, and writes `length` bytes of `info`, which outlives the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) }?;
    Ok((info.ifindex != 0).then_some(info.ifindex))
}

/// Detaches the link pinned at `path`, now. Without it the kernel does so some time after pin and descriptors
/// are gone, and until then the device is busy. A link whose device is gone is detached already.
pub fn detach(path: &Path) -> io::Result<()> {
    let link = open(path)?;
    let descriptor = link.as_raw_fd().unsigned_abs();
    // SAFETY: BPF_LINK_DETACH reads a descriptor of 32 bits.
    unsafe { bpf(BPF_LINK_DETACH, &descriptor) }.map(drop)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pointer = path.as_ptr() as u64;
    // SAFETY: BPF_OBJ_GET reads a pointer to a string with a final zero, which outlives the call.
    let found = unsafe { bpf(BPF_OBJ_GET, &pointer) }?;
    // SAFETY: the command has just made the descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(found) })
}

/// bpf(2) with the head of its attributes; the kernel takes what is missing as zero.
///
/// # Safety
/// `T` is what `command` reads, and its pointers are valid for it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
