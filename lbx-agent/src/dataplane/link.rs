//! Taking a pinned link's program off its device: two commands of bpf(2) that aya does not have.

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
const BPF_LINK_DETACH: libc::c_int = 34;

/// Detaches the link pinned at `path`, now. Without it the kernel does so some time after pin and descriptors
/// are gone, and until then the device is busy. A link whose device is gone is detached already.
pub fn detach(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // Heads of `union bpf_attr`; the kernel takes what is missing as zero.
    // SAFETY: BPF_OBJ_GET reads a pointer to a string with a final zero, which outlives the call.
    let found = unsafe { bpf(BPF_OBJ_GET, &[path.as_ptr() as u64]) }?;
    // SAFETY: the command has just made the descriptor, and nobody else owns it.
    let link = unsafe { OwnedFd::from_raw_fd(found) };
    let descriptor = u64::from(link.as_raw_fd().unsigned_abs());
    // SAFETY: BPF_LINK_DETACH reads a descriptor of 32 bits; the other half of the word is zero.
    unsafe { bpf(BPF_LINK_DETACH, &[descriptor.to_le()]) }.map(drop)
}

/// # Safety
/// `attributes` is what `command` reads, and its pointers are valid for it.
unsafe fn bpf(command: libc::c_int, attributes: &[u64; 1]) -> io::Result<i32> {
    let size = size_of_val(attributes);
    // SAFETY: the kernel reads `size` bytes; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
